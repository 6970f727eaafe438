"""What lies where in a data folder. The names are durable; the packages that write these files say the same, which a test compares.

Here once more, because to know a name must not cost loading Bytewax and numpy, which only the flow needs.
"""

from pathlib import Path

TELEMETRY = "telemetry"
FLOW = "flow"
"""The flow, as a consumer of the telemetry journal."""


def telemetry_path(data_dir: Path) -> Path:
    """Return the file of the telemetry journal."""
    return data_dir / "telemetry.db"


def outbox_path(data_dir: Path, number: int) -> Path:
    """Return the file of one partition's outbox."""
    return data_dir / f"outbox-{number}.db"


def outbox_paths(data_dir: Path, partitions: int) -> dict[int, Path]:
    """Return every outbox file by its number, whether it is there yet or not."""
    return {number: outbox_path(data_dir, number) for number in range(partitions)}


def offsets_path(data_dir: Path) -> Path:
    """Return the file of the consumers' offsets."""
    return data_dir / "offsets.db"


def ledger_path(data_dir: Path, name: str) -> Path:
    """Return the file of a channel's or a store's ledger."""
    return data_dir / f"delivery-{name}.db"


def history_path(data_dir: Path) -> Path:
    """Return the file of the embedded store."""
    return data_dir / "history.db"
