"""What the journal's tests stand on: small disks that fill up and directories that cannot be written."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A factory of file systems in memory: `small_disk("size=4m")`. Skips where this user may not mount."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        directory = tmp_path / f"disk-{len(mounted)}"
        directory.mkdir()
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk needs root")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this machine does not let root mount a tmpfs")
        mounted.append(directory)
        return directory

    yield mount
    for directory in mounted:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture
def read_only_directory(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory in which nobody can write, root neither."""
    if os.geteuid() == 0:
        yield request.getfixturevalue("small_disk")("size=1m,ro")
        return
    directory = tmp_path / "read-only"
    directory.mkdir(mode=0o500)
    yield directory
    directory.chmod(0o700)
