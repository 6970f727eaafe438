from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.status import StatusFile, read_status
from telemetry.errors import VitalaneError


def test_a_service_says_what_it_does_until_it_stops(tmp_path: Path) -> None:
    """Health checks and the demo look at it: a service that ended in order says so."""
    with StatusFile(tmp_path, "flow", lambda: {"behind": 3}):
        status = read_status(tmp_path, "flow")
        assert (status["service"], status["state"], status["behind"]) == ("flow", "running", 3)
    assert read_status(tmp_path, "flow")["state"] == "stopped"
    assert [path.name for path in (tmp_path / "status").iterdir()] == ["flow.json"]


def test_what_cannot_be_looked_at_yet_is_a_note(tmp_path: Path) -> None:
    def look() -> Mapping[str, Any]:
        msg = "there is no journal"
        raise VitalaneError(msg)

    with StatusFile(tmp_path, "flow", look):
        assert read_status(tmp_path, "flow")["note"] == "there is no journal"


def test_a_service_runs_where_its_status_cannot_be_written(tmp_path: Path) -> None:
    """A full disk must not take a service down that could still do its work."""
    (tmp_path / "status").write_text("a file stands where the folder should")
    with StatusFile(tmp_path, "flow", dict):
        assert read_status(tmp_path, "flow") == {}


def test_a_status_that_is_damaged_is_none(tmp_path: Path) -> None:
    (tmp_path / "status").mkdir()
    (tmp_path / "status" / "flow.json").write_text('{"state": "runn')
    assert read_status(tmp_path, "flow") == {}
    assert read_status(tmp_path, "ingest") == {}
