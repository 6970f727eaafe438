"""The stage of the demo: a folder with a real configuration, rules, registry and subscriptions, as an operator would write them."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from cli.broker import LocalBroker

PASSWORD_FILE = "broker.password"  # noqa: S105 - the name of a file
CHANNEL = "screen"


def set_stage(folder: Path, broker: LocalBroker, devices: list[dict[str, Any]]) -> Path:
    """Write everything that `vitalane up` needs; return the configuration's path."""
    secret = folder / PASSWORD_FILE
    secret.touch(mode=0o600)
    secret.write_text(broker.password)
    (folder / "rules.yaml").write_text(files("rules").joinpath("packs", "demo.yaml").read_text())
    (folder / "registry.yaml").write_text("devices:\n" + "".join(f"  - {json.dumps(device)}\n" for device in devices))
    (folder / "subscriptions.yaml").write_text(SUBSCRIPTIONS)
    configuration = folder / "vitalane.yaml"
    configuration.write_text(CONFIGURATION.format(port=broker.port, user=json.dumps(broker.user), password=PASSWORD_FILE, channel=CHANNEL))
    return configuration


CONFIGURATION = """\
# Written by `vitalane demo`; `vitalane up -c` on it runs the same services.
data_dir: data
broker: {{host: 127.0.0.1, port: {port}, user: {user}, password: {{file: {password}}}}}
rules: [rules.yaml]
registry: registry.yaml
windows: {{shipment: 5 min, patient: 10 s}}
historic_after: 2 h           # the fleet's hour passes in the demo's minute: its first readings are an hour old
stores:
  history: {{}}
channels:
  {channel}: {{type: terminal}}
subscriptions: subscriptions.yaml
"""

SUBSCRIPTIONS = """\
# Who hears of what: here everything goes to the screen.
- name: everything
  channels: [screen]
"""
