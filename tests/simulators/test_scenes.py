"""The demo's scene keeps its word: what its truth says is what its messages show, and they show nothing else."""

import itertools
import json
from collections import defaultdict

import pytest

from simulators.incidents import IncidentKind
from simulators.scenes import demo
from telemetry.clock import parse_ms
from telemetry.metrics import CATALOGUE

NOW = 1_763_700_000_000
HELD_MS = {IncidentKind.DOOR_OPEN: 600_000, IncidentKind.DESATURATION: 10_000, IncidentKind.PROBE_SILENT: 6_000}


def played(scene, length_s):
    """Return every message of a scene, as it is published within its length, feed by feed."""
    feeds = []
    for feed in scene.feeds:
        end = feed.source.next_ms + length_s * 1000 * feed.speed
        messages = []
        while feed.source.next_ms <= end:
            messages += feed.source.take()
        feeds.append([message for message in messages if message.time_ms <= end])
    return feeds


def good(payload):
    try:
        decoded = json.loads(payload)
    except ValueError:
        return None
    values = decoded["values"]
    return decoded["time"], {m: v for m, v in values.items() if CATALOGUE[m].low <= v <= CATALOGUE[m].high}


def by_series(messages):
    series = defaultdict(dict)
    for message in messages:
        read = good(message.payload)
        if read:
            for metric, value in read[1].items():
                series[message.topic.split("/")[3], metric][read[0]] = value
    return {key: sorted(readings.items()) for key, readings in series.items()}


def runs(readings, passed, held_ms):
    """Return (first past, first back) of every run of readings past a limit that holds long enough: the definition, read aloud."""
    found, began, last = [], None, None
    for time_ms, value in readings:
        if passed(value):
            began = time_ms if began is None else began
            last = time_ms
        else:
            if began is not None and last - began >= held_ms:
                found.append((began, time_ms))
            began = None
    if began is not None and last - began >= held_ms:
        found.append((began, None))
    return found


def scanned(feeds, ahead):
    """Return (kind, device, first past, first back) of everything that a rule of the demo must find, by brute force."""
    found = []
    for (device, metric), readings in by_series([message for messages in feeds for message in messages]).items():
        if device in ahead:
            continue
        if metric == "temperature":
            found += [("door_open", device, *run) for run in runs(readings, lambda value: value > 8, HELD_MS[IncidentKind.DOOR_OPEN])]
        if metric == "spo2":
            found += [
                ("desaturation", device, *run) for run in runs(readings, lambda value: value < 90, HELD_MS[IncidentKind.DESATURATION])
            ]
            times = [time_ms for time_ms, _ in readings]
            found += [("probe_silent", device, a, b) for a, b in itertools.pairwise(times) if b - a >= HELD_MS[IncidentKind.PROBE_SILENT]]
    return sorted(found)


@pytest.mark.parametrize("length_s", [15, 22.5, 60, 180])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_truth_is_what_a_scan_of_the_messages_shows(length_s, seed):
    """Whatever the length: three incidents, each long enough for its rule, each over before the end, and nothing besides."""
    scene = demo(seed=seed, duration_s=length_s, now_ms=NOW + seed * 7 * 3_600_000)
    feeds = played(scene, length_s)
    lines = [json.loads(line) for line in scene.truth.lines()]
    told = [(line["incident"], line["device"], parse_ms(line["breach"]["start"]), parse_ms(line["breach"]["end"])) for line in lines]
    told = [(kind, device, start - 1000 if kind == "probe_silent" else start, end) for kind, device, start, end in told]
    assert sorted(told) == scanned(feeds, scene.ahead)
    assert len(told) == 3
    for incident in scene.truth.incidents:
        breach = scene.truth.breach(incident)
        assert incident.start_ms <= breach.start_ms < incident.end_ms <= breach.end_ms


def test_the_cause_acts_when_the_truth_says():
    scene = demo(seed=5, duration_s=60, now_ms=NOW)
    series = by_series([message for messages in played(scene, 60) for message in messages])
    door = next(item for item in scene.truth.incidents if item.kind is IncidentKind.DOOR_OPEN)
    opened = [time_ms for time_ms, value in series[door.device, "door"] if value == 1 and time_ms >= door.start_ms]
    assert door.start_ms <= opened[0] <= door.start_ms + 60_000
    assert door.end_ms - 60_000 <= [time_ms for time_ms in opened if time_ms < door.end_ms + 60_000][-1] < door.end_ms + 30_000
    assert door.rule == "vaccine-too-warm"
    tags = {device.device: device.tags for device in scene.devices}
    assert tags[door.device]["product"] == "vaccine"


def test_doors_of_ordinary_deliveries_close_before_anyone_is_told():
    """The demo's pack alerts on a door that is open for five minutes; only the scripted one is."""
    scene = demo(seed=1, duration_s=60, now_ms=NOW)
    series = by_series(played(scene, 60)[0])
    left_open = [
        device for (device, metric), readings in series.items() if metric == "door" and runs(readings, lambda value: value >= 1, 240_000)
    ]
    assert left_open == [item.device for item in scene.truth.incidents if item.kind is IncidentKind.DOOR_OPEN]


def test_without_a_length_everything_happens_within_the_first_minute():
    scene = demo(seed=1, now_ms=NOW)
    feeds = played(scene, 60)
    assert len(scanned(feeds, scene.ahead)) == 3
    assert feeds[0][-1].time_ms <= NOW + 60_000


def test_event_time_never_passes_the_clock():
    for length_s in (15, 60, 7200):
        for feed in demo(seed=1, duration_s=length_s, now_ms=NOW).feeds:
            assert feed.never_ahead
            assert feed.source.next_ms + length_s * 1000 * feed.speed <= NOW + length_s * 1000


def test_the_dirt_is_what_is_counted():
    scene = demo(seed=1, duration_s=60, now_ms=NOW)
    messages = [message for messages in played(scene, 60) for message in messages]
    twice = len(messages) - len({(message.topic, message.payload) for message in messages})
    unreadable = sum(good(message.payload) is None for message in messages)
    implausible = sum(b'"temperature":850.0' in message.payload for message in messages)
    ahead = [message for message in messages if message.topic.split("/")[3] in scene.ahead]
    dirt = scene.dirt()
    assert dirt.pop("clock_day_ahead") >= len(ahead)  # the last tick's messages may be due after the end
    assert dirt == {"duplicates": 5, "spike": 1, "malformed": 1, "retained": 1}
    assert (twice, unreadable, implausible) == (5, 1, 1)
    assert [message.retain for message in scene.retained] == [True]
    assert ahead
    assert all(good(message.payload)[0] > NOW + 60_000 for message in ahead)


def test_the_dirt_touches_nobody_to_whom_something_happens():
    for seed in range(20):
        scene = demo(seed=seed, duration_s=60, now_ms=NOW)
        struck = [item.device for item in scene.truth.incidents]
        assert len(set(struck)) == 3
        played(scene, 60)
        dirty = {scene.retained[0].topic.split("/")[3], *scene.ahead}
        assert not dirty & set(struck)


def test_a_seed_a_length_and_a_start_give_the_same_scene():
    one, same, other = (played(demo(seed=seed, duration_s=15, now_ms=NOW), 15) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_the_registry_lists_every_device_once():
    scene = demo(seed=1, now_ms=NOW, trucks=6, patients=4)
    entries = scene.registry()
    assert [entry["device"] for entry in entries] == [f"truck-{n:02d}" for n in range(1, 7)] + [f"monitor-{n:02d}" for n in range(1, 5)]
    assert entries[-1] == {"device": "monitor-04", "subject": "patient-04", "kind": "patient", "tags": {"ward": "west", "bed": "04"}}
    assert {entry["tags"]["product"] for entry in entries[:6]} == {"vaccine", "produce", "dairy"}


@pytest.mark.parametrize("asked", [{"duration_s": 10.0}, {"trucks": 2}, {"patients": 2}])
def test_a_scene_that_could_not_show_its_incidents_is_refused(asked):
    with pytest.raises(ValueError, match="the demo needs"):
        demo(now_ms=NOW, **asked)
