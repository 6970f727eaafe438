from pathlib import Path

from cli import places
from flows import outbox, service


def test_places_are_where_the_packages_that_write_say() -> None:
    """The names are written down twice so that nobody loads Bytewax to know one: they must not part."""
    data_dir = Path("data")
    assert places.telemetry_path(data_dir) == service.telemetry_path(data_dir)
    assert places.outbox_path(data_dir, 3) == outbox.outbox_path(data_dir, 3)
    assert (places.TELEMETRY, places.FLOW) == (service.TELEMETRY, service.CONSUMER)
