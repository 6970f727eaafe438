"""Fuzzing of each decoder with atheris: `python -m tests.decoders.fuzzing DECODER --runs 20000`. Stops by itself; a crash is an exit code.

An input is a message: the decoder's own topics in turn, and bytes that libFuzzer grows from the seeds below by what the decoder's branches
compare them with.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import atheris

with atheris.instrument_imports(include=["decoders"], enable_loader_override=False):
    from decoders.decode import RowDecoder
    from decoders.edge_nodes import EdgeNodes
    from decoders.library import adapted, gathered, read_document, shipped_names
    from decoders.mappings import Mappings
    from decoders.shapes import Shapes

from journal.messages import decode_messages, encode_messages
from telemetry.metrics import CATALOGUE
from tests.decoders.samples import DECODERS, SAMPLES, topics_of

LARGEST = 65_536
NOW_MS = 1_763_674_000_123


class Worst(NamedTuple):
    seconds: float
    size: int


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("decoder", choices=DECODERS)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    topics = topics_of(chosen.decoder)
    decoder, shapes, sessions = built(chosen.decoder)
    worst = Worst(0.0, 0)
    count = 0

    def one(data: bytes) -> None:
        nonlocal worst, count
        count += 1
        row = decode_messages(encode_messages([topics[count % len(topics)]], [data], b"\0"))
        began = time.thread_time()
        decoded = decoder.decode(row, NOW_MS, shapes, sessions)
        worst = max(worst, Worst(time.thread_time() - began, len(data)))
        if count == chosen.runs:
            print(f"{chosen.decoder}: {count} messages, the slowest {worst.seconds * 1000:.1f} ms for {worst.size} bytes", flush=True)
        assert len(decoded.packets.values) == sum(map(len, decoded.packets.metrics))
        assert all(value == value and abs(value) != float("inf") for value in decoded.packets.values)

    with TemporaryDirectory() as corpus:
        for number, sample in enumerate(SAMPLES.get(chosen.decoder, [b"{}"])):
            (Path(corpus) / str(number)).write_bytes(sample)
        flags = [f"-runs={chosen.runs}", f"-max_len={LARGEST}", f"-seed={chosen.seed}", "-timeout=10", "-rss_limit_mb=2048", "-verbosity=0"]
        flags.append(f"-artifact_prefix={corpus}/")
        atheris.Setup([sys.argv[0], *flags, corpus], one)
        atheris.Fuzz()  # does not return


def built(name: str) -> tuple[RowDecoder, Shapes, EdgeNodes]:
    """Return a decoder with the mappings of one document, or of none."""
    documents = [(name, adapted(read_document(name), {"zone": "UTC"}, name))] if name in shipped_names() else []
    library = gathered(documents, {})
    catalogue = CATALOGUE | {metric.name: metric for metric in library.metrics}
    return RowDecoder(catalogue, Mappings(library.mappings)), Shapes(), EdgeNodes("shipment")


if __name__ == "__main__":
    main(sys.argv[1:])
