"""Sparkplug from an edge node to an alert, through the whole house: births, aliases, a lost message, a restart, a kill, a death."""

import os
import signal

import pytest

from tests.edge_nodes import LiveNode
from tests.house import House, until

RULES = """rules:
  - {id: warm, when: temperature > 8 Cel, severity: critical}
  - {id: gone, applies_to: {kind: shipment}, when: 'absent(device, 4 h)', severity: warning}
"""
PROBE = "plant:line-1:probe"

pytestmark = [pytest.mark.servers, pytest.mark.long, pytest.mark.timeout(180)]


@pytest.fixture
def house(tmp_path, start_mosquitto):
    (tmp_path / "rules.yaml").write_text(RULES)
    running = House(tmp_path, start_mosquitto(), rules=["rules.yaml"], sparkplug={"groups": ["plant"], "reorder_timeout": "200 ms"})
    running.command("config", "check")
    with running:
        until(lambda: sparkplug(running).get("connected"), running.told)
        yield running


def sparkplug(house: House) -> dict[str, object]:
    return house.status("ingest").get("sparkplug") or {}


def told(house: House) -> set[tuple[str, str, str]]:
    return {(event.rule, event.subject, str(event.phase)) for event in house.events()}


def test_an_edge_node_from_birth_to_death(house):
    with LiveNode(house.broker) as node:
        until(lambda: sparkplug(house).get("nodes") == 1, house.told)

        node.measure(9.0)
        until(lambda: ("warm", PROBE, "raised") in told(house), house.told)

        node.measure(9.5, lost=True)
        node.measure(6.0)
        until(lambda: node.births == 2, house.told)
        until(lambda: ("warm", PROBE, "resolved") in told(house), house.told)

        assert house.stop() == 0
        house.start()
        until(lambda: sparkplug(house).get("connected") and not sparkplug(house).get("nodes"), house.told)
        node.measure(9.0)
        until(lambda: node.births == 3, house.told)
        until(lambda: [event.rule for event in house.events() if event.phase == "raised"].count("warm") == 2, house.told)

        os.kill(house.status("ingest")["pid"], signal.SIGKILL)
        until(lambda: node.births == 4, house.told)

        assert not {rule for rule, *_ in told(house)} - {"warm"}
        node.die()
        until(lambda: {("gone", "plant:line-1", "raised"), ("gone", PROBE, "raised")} <= told(house), house.told)

        node.connect()
        until(lambda: {("gone", "plant:line-1", "resolved"), ("gone", PROBE, "resolved")} <= told(house), house.told)
    assert house.stop() == 0
    house.command("verify")
