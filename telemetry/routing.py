"""Which partition carries a subject. Durable: changing it would part a subject's past from its future."""

from zlib import crc32


def partition_of(subject: str, partitions: int) -> int:
    """Return the journal partition of everything about a subject, 0 to `partitions` - 1."""
    return crc32(subject.encode()) % partitions
