"""Everything real that holds readings, as its makers wrote it, over a real broker through the whole house: what is read, what is dirt.

Files go out as they are; mappings say what they mean. The counts below were counted in the files by other means (see each line).
"""

import csv
import json
import os
import time
from base64 import b64encode
from collections import Counter
from pathlib import Path

import pytest

from simulators.faults import Message
from simulators.files import CLIF_METRICS, clif_rows, start_together
from simulators.publish import Broker, Publisher
from simulators.replay import write_rows
from telemetry.metrics import CATALOGUE
from tests.house import House, until

DATA = Path(os.environ.get("VITALANE_DATA") or Path(__file__).parents[3] / "shared" / "data")

pytestmark = [
    pytest.mark.servers,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not DATA.exists(), reason=f"real data is not at {DATA}: set VITALANE_DATA"),
]

ZONE = "Europe/Amsterdam"
MAPPINGS = [
    "lorawan-codecs", "chirpstack", "the-things-stack", "zigbee2mqtt", {"use": "tasmota", "zone": ZONE}, "thingsboard", "ruuvi",
    {"use": "qtag", "zone": ZONE}, "wearables", {"use": "freezer", "zone": ZONE}, "clif", {"use": "time-value", "zone": "UTC"},
]  # fmt: skip

UPLOADS = (
    ("qtag-logger/qtag_clm_RCPJ00010_run02.txt", "qtag-clm", "reader"),
    ("qtag-logger/fridgetag2_130400191544.txt", "qtag-fridge-tag", "reader"),
    ("wearables/garmin_data.csv", "garmin", "watch"),
    ("wearables/empatica_HR.csv", "empatica-hr", "band"),
    ("wearables/empatica_TEMP.csv", "empatica-temperature", "band"),
    ("wearables/empatica_IBI.csv", "empatica-ibi", "band"),
    ("freezer-sample/135_1570_sample.csv", "freezer", "freezer-1"),
    ("nab-temperature/ambient_temperature_system_failure.csv", "time-value-fahrenheit", "room"),
    ("nab-temperature/machine_temperature_system_failure.csv", "time-value-fahrenheit", "machine"),
    ("clif-vitals/vitals.csv", "clif-vitals", "icu"),
    ("clif-vitals/assessments.csv", "clif-assessments", "icu"),
    ("clif-vitals/respiratory_support.csv", "clif-respiratory", "icu"),
)


@pytest.fixture
def house(tmp_path, start_mosquitto):
    with House(tmp_path, start_mosquitto(), mappings=MAPPINGS, horizon={"shipment": "3 d", "patient": "3 d"}) as running:
        until(lambda: running.status("ingest").get("connected"), running.told)
        yield running


def settled(house: House, messages: int) -> None:
    """Wait until so many messages are journalled and the flow has decided all of them: nothing new for two epochs."""
    until(lambda: house.status("ingest").get("received", 0) >= messages, house.told)
    counted, since = -1, time.monotonic()

    def quiet() -> bool:
        nonlocal counted, since
        now = house.status("flow").get("received", 0)
        if now != counted:
            counted, since = now, time.monotonic()
        return counted > 0 and time.monotonic() - since > 6

    until(quiet, house.told, patience_s=150)


def uploaded(house: House, file: Path, *arguments: str) -> int:
    """Upload or replay a file; return how many messages it was."""
    return int(house.command("simulate", arguments[0], str(file), *arguments[1:]).stderr.split(" messages sent")[0].split()[-1])


def quarantine(house: House) -> Counter[tuple[str, str]]:
    lines = house.command("quarantine", "list", "--json").stdout.splitlines()
    return Counter((item["reason"], item["metric"]) for item in map(json.loads, lines))


def heard_of(house: House) -> dict[str, dict[str, int]]:
    """Return the readings by metric of each device, as they stand in the journal."""
    lines = house.command("devices", "list", "--json").stdout.splitlines()
    return {item["device"]: item["heard"]["readings"] for item in map(json.loads, lines)}


def test_every_export_is_read_and_its_dirt_refused_for_what_it_is(house):
    settled(house, sum(uploaded(house, DATA / file, "upload", "--as", mapping, "--device", device) for file, mapping, device in UPLOADS))

    refused = quarantine(house)
    future = {metric: number for (reason, metric), number in refused.items() if reason == "future_time"}
    assert sum(future.values()) == 53_860 + 4_580 + 4_271, "the stays are dated in the 22nd century, so that nobody knows whose they are"
    others = {key: number for key, number in refused.items() if key[0] != "future_time"}
    assert others == {
        ("not_measured", "stress"): 97,  # rows of -1 and -2
        ("not_measured", "heart_rate"): 1,  # one row of -1
        ("not_measured", "oxygen"): 1,  # one row whose device is "Other"
    }
    heard = heard_of(house)
    assert heard["RCPJ00010"] == {"temperature": 124}
    assert heard["130400191544"] == {"temperature": 8}
    assert heard["watch"] == {"interbeat_interval": 14_316, "heart_rate": 8_747, "stress": 2_014, "steps": 96}
    assert heard["band"] == {"heart_rate": 4_998, "skin_temperature": 4_998, "interbeat_interval": 4_999}
    assert heard["freezer-1"]["temperature"] == heard["freezer-1"]["door"] == 148
    assert (heard["room"], heard["machine"]) == ({"temperature": 7_267}, {"temperature": 22_695})
    assert len([device for device in heard if device.isdigit() and len(device) == 8]) == 73, "stays"

    books = house.status("flow")
    assert books["conflicts"] == 12, "the machine's clock was put back once, by 55 minutes: 12 times stand there twice, with other values"
    assert (books["duplicate"], books["quarantined"]) == (0, sum(refused.values()))
    assert "everything is accounted for" in house.command("verify").stdout


def test_intensive_care_moved_to_today_shows_its_dirt(house):
    """Fahrenheit filed as Celsius, a mean pressure of -27 or 801: reference is a count of the file against the catalogue's bounds."""
    moved = house.directory / "moved.csv"
    with moved.open("w") as out:
        write_rows(start_together(clif_rows(DATA / "clif-vitals" / "vitals.csv"), 1_700_000_000_000), out)
    settled(house, uploaded(house, moved, "replay", "--speed", "0", "--kind", "patient"))

    expected: Counter[tuple[str, str]] = Counter()
    with (DATA / "clif-vitals" / "vitals.csv").open() as file:
        for row in csv.DictReader(file):
            if row["vital_category"] in CLIF_METRICS:
                metric = CATALOGUE[CLIF_METRICS[row["vital_category"]][0]]
                expected["implausible", metric.name] += not metric.low <= float(row["vital_value"]) <= metric.high
    refused = quarantine(house)
    assert {key: number for key, number in refused.items() if key[0] == "implausible"} == {key: n for key, n in expected.items() if n}
    assert set(refused) - set(expected) == set(), "nothing is refused for another reason"
    assert "everything is accounted for" in house.command("verify").stdout


def test_payloads_of_every_make_come_through_the_broker(house):
    """Nothing is unmapped, nothing refused but what the devices themselves call not measured."""
    items = [json.loads(line) for line in (DATA / "payloads" / "payloads.jsonl").read_text().splitlines()]
    sent = [(item["topic"].replace("/me/", "/logger-1/"), item["payload"].encode()) for item in items]
    vectors = json.loads((DATA / "payloads" / "ruuvi_df5_vectors.json").read_text())["vectors"]
    sent += [("ruuvi/gw/CB:B8:33:4C:88:4F", vector["hex"].encode()) for vector in vectors]
    for number, vector in enumerate(json.loads((DATA / "payloads" / "lorawan_codec_vectors.json").read_text())["vectors"]):
        data = b64encode(bytes.fromhex(vector["bytes"])).decode()
        payload = {"deviceInfo": {"devEui": f"0{number}"}, "fPort": vector["fPort"], "data": data}
        sent.append((f"application/x/device/0{number}/event/up", json.dumps(payload).encode()))
    broker = Broker(port=house.broker.port, user=house.broker.user, password=house.broker.password)
    with Publisher(broker, clients=1) as publisher:
        for topic, payload in sent:
            assert publisher.send(Message(0, topic, payload))
    settled(house, len(sent))

    heard = heard_of(house)
    assert heard["logger-1"] == {"humidity": 2}
    assert heard["dev1"] == {"temperature": 1, "light": 1}
    assert heard["fridge_probe"] == {"temperature": 1, "humidity": 1}
    assert heard["tasmota"] == {"temperature": 2, "humidity": 2, "carbon_dioxide": 1}
    assert heard["0101010101010101"] == {"battery": 1}
    assert [heard[f"0{number}"] for number in range(3)] == [
        {"temperature": 1, "humidity": 1, "battery_voltage": 1},
        {"temperature": 1, "humidity": 1, "battery_voltage": 1, "probe_temperature": 1},
        {"temperature": 1, "humidity": 1, "battery": 1},
    ]
    refused = quarantine(house)
    assert Counter({reason for reason, _ in refused}) == Counter({"not_measured", "implausible"})
    assert sum(number for (reason, _), number in refused.items() if reason == "not_measured") == 7, "the tag without any sensor"
    assert {metric for reason, metric in refused if reason == "implausible"} == {"temperature", "humidity"}, (
        "163.835: the ends of the scale"
    )
