"""The real servers that tests run against: where they are, and a port that is free. Never a substitute for one of them."""

import os
import random
import shutil
import socket
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("VITALANE_TOOLS") or Path.home() / ".cache" / "vitalane" / "tools")
"""Where `make tools` puts what the machine does not have."""

_PORTS = range(15_000, 32_000)  # below Linux's ephemeral range: an outgoing connection cannot take one meanwhile
_random = random.SystemRandom()


def find_mosquitto() -> Path:
    """Return the broker's path; without it the test is skipped, or fails where the servers are required."""
    return _find("mosquitto") or _absent("mosquitto (the MQTT broker)")


def find_mosquitto_passwd() -> Path:
    """Return the path of the broker's password tool, likewise."""
    return _find("mosquitto_passwd") or _absent("mosquitto_passwd (comes with the MQTT broker)")


def find_influxd() -> Path:
    """Return the path of the InfluxDB 1.8 server, likewise."""
    return _find("influxd") or _absent("influxd (InfluxDB 1.8)")


def servers_required() -> bool:
    """Return whether a server that is missing is a failure and no reason to skip."""
    return os.environ.get("VITALANE_REQUIRE_SERVERS") == "1"


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on. Another process may still take it: who starts a server tries again."""
    while True:
        port = _random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _find(name: str) -> Path | None:
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", str(CACHE / "bin")])
    found = shutil.which(name, path=places)
    return Path(found) if found else None


def _absent(what: str) -> Path:
    sentence = f"{what} is not installed: `make tools` gets it"
    if servers_required():
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
