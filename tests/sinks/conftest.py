"""Fixtures of the sinks' tests."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sinks.parts import OutboxFile, Receiver


@pytest.fixture
def outbox_file(tmp_path: Path) -> Iterator[OutboxFile]:
    """A real outbox file, open for writing."""
    file = OutboxFile(tmp_path / "outbox-0.db")
    yield file
    file.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real HTTP server on the loopback."""
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    """What a loop runs until; set at the end whatever happens."""
    stopping = threading.Event()
    yield stopping
    stopping.set()
