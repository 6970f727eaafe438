"""The keys of shards. Durable: they name the state in the recovery store.

Bytewax routes a key to the worker siphash13(key) modulo workers. Keys are minted with a salt so that shard `i` hashes to `i` modulo
840, the least common multiple of 1 to 8: with up to eight workers a shard, its journal partition and its outbox lie on one worker,
and nothing is pickled on the way. That is a matter of speed; correctness does not depend on it.
"""

from functools import cache

MODULUS = 840
MASK = (1 << 64) - 1


@cache
def shard_key(partition: int) -> str:
    """Return the key of a partition's shard, `shard-0003-17`."""
    salt = 0
    while siphash13(f"shard-{partition:04d}-{salt}".encode() + b"\xff") % MODULUS != partition % MODULUS:
        salt += 1
    return f"shard-{partition:04d}-{salt}"


def partition_of_key(key: str) -> int:
    """Return the partition that a shard key names."""
    return int(key.split("-")[1])


def siphash13(data: bytes) -> int:
    """Return SipHash-1-3 of `data` under the zero key, 64 bits: Aumasson and Bernstein (2012), with one and three rounds."""
    state = [0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573]
    whole = len(data) - len(data) % 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | ((len(data) & 0xFF) << 56))
    for word in words:
        state[3] ^= word
        _round(state)
        state[0] ^= word
    state[2] ^= 0xFF
    for _ in range(3):
        _round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _round(state: list[int]) -> None:
    v0, v1, v2, v3 = state
    v0 = (v0 + v1) & MASK
    v1 = _rotated(v1, 13) ^ v0
    v0 = _rotated(v0, 32)
    v2 = (v2 + v3) & MASK
    v3 = _rotated(v3, 16) ^ v2
    v0 = (v0 + v3) & MASK
    v3 = _rotated(v3, 21) ^ v0
    v2 = (v2 + v1) & MASK
    v1 = _rotated(v1, 17) ^ v2
    v2 = _rotated(v2, 32)
    state[:] = v0, v1, v2, v3


def _rotated(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & MASK
