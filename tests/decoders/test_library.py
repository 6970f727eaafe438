"""The shipped mappings on what real devices send and real exports hold: what is read, and under which reason the dirt is refused."""

import json
import os
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from decoders.decode import RowDecoder
from decoders.library import adapted, gathered, read_document, shipped_names
from decoders.mapping_model import MappingModel
from decoders.mappings import as_plain
from telemetry.reasons import Reason
from tests.decoders.reading import Told, read, refused, shipped, told

DATA = Path(os.environ.get("VITALANE_DATA") or Path(__file__).parents[3] / "shared" / "data")
real = pytest.mark.skipif(not DATA.exists(), reason=f"real data is not at {DATA}: set VITALANE_DATA")


def payloads() -> list[dict[str, Any]]:
    file = DATA / "payloads" / "payloads.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


AMSTERDAM = {
    # what the documentation of these payloads says is to be read out of them; local times in the zone that the tests declare
    "chirpstack4-up": [],
    "chirpstack4-status": [("battery", 88.3, ms("2022-07-18T09:35:06.927+00:00"))],
    "ttn3-up": [("temperature", 1.0, ms("2020-02-12T15:15:45.790+00:00")), ("light", 0.64, ms("2020-02-12T15:15:45.790+00:00"))],
    "z2m-wsdcgq01lm": [("temperature", 27.34, None), ("humidity", 44.72, None)],
    "z2m-bridge-state": [],
    "tasmota-dht22": [("temperature", 23.9, ms("2017-02-12T16:11:12+01:00")), ("humidity", 34.1, ms("2017-02-12T16:11:12+01:00"))],
    "tasmota-scd40": [
        ("temperature", 23.8, ms("2023-05-28T20:04:27+02:00")),
        ("humidity", 61.1, ms("2023-05-28T20:04:27+02:00")),
        ("carbon_dioxide", 618.0, ms("2023-05-28T20:04:27+02:00")),
    ],
    "tasmota-deepsleep": [],
    "thingsboard-batch": [("humidity", 43.0, 1_741_356_882_759), ("humidity", 46.0, 1_741_356_918_779)],
}


@real
@pytest.mark.parametrize("item", payloads(), ids=lambda item: item["id"])
def test_a_payload_as_a_real_device_sends_it(item):
    """Nothing is refused, and nothing is read that was not measured."""
    by = shipped("chirpstack", "the-things-stack", "zigbee2mqtt", "tasmota", "thingsboard", zone="Europe/Amsterdam")
    topic = item["topic"].replace("/me/", "/logger-1/")  # on a device's own topic nobody but the broker can see whose it is
    decoded = read(by, (topic, item["payload"].encode()))
    assert [(one.metric, one.value, one.time_ms) for one in told(decoded)] == AMSTERDAM[item["id"]]
    assert not decoded.refusals
    assert [status.online for status in decoded.statuses] == ([True] if item["id"] == "z2m-bridge-state" else [])


def test_a_tasmota_epoch_is_taken_before_its_local_time():
    """The two disagree by the zone; the epoch is right whatever zone somebody wrote down."""
    payload = b'{"Time":"2019-09-04T13:08:48","Epoch":1567595328,"DHT22":{"Temperature":73.4},"TempUnit":"F"}'
    [one] = told(read(shipped("tasmota", zone="Asia/Tokyo"), ("tele/x/SENSOR", payload)))
    assert (round(one.value, 9), one.time_ms) == (23.0, 1_567_595_328_000)


@real
def test_ruuvi_bytes_as_their_maker_decodes_them():
    for vector in json.loads((DATA / "payloads" / "ruuvi_df5_vectors.json").read_text())["vectors"]:
        decoded = read(shipped("ruuvi"), ("ruuvi/gateway/CB:B8:33:4C:88:4F", vector["hex"].encode()))
        if "all_fields" in vector:
            assert not told(decoded)
            assert {reason for _, reason in refused(decoded.refusals)} == {Reason.NOT_MEASURED}
            continue
        expected = {
            "temperature": vector["temperature"],
            "humidity": vector["humidity"],
            "pressure": vector["pressure_pa"],
            "battery_voltage": vector["battery_v"],
        } | dict(zip(("acceleration_x", "acceleration_y", "acceleration_z"), vector["acc_g"], strict=True))
        assert {one.metric: one.value for one in told(decoded)} == pytest.approx(expected)


CODEC_FIELDS = {
    "browan/tbhh100": {"temperature": "temperature", "humidity": "humidity", "battery": "battery_voltage"},
    "dragino/lht65": {"TempC_SHT": "temperature", "Hum_SHT": "humidity", "TempC_DS": "probe_temperature", "BatV": "battery_voltage"},
    "milesight-iot/em300-th": {"temperature": "temperature", "humidity": "humidity", "battery": "battery"},
}


@real
def test_lorawan_bytes_as_the_device_repository_decodes_them():
    for vector in json.loads((DATA / "payloads" / "lorawan_codec_vectors.json").read_text())["vectors"]:
        data = b64encode(bytes.fromhex(vector["bytes"])).decode()
        payload = {"deviceInfo": {"devEui": "0a0b"}, "fPort": vector["fPort"], "data": data, "time": "2026-01-31T08:00:00+00:00"}
        decoded = read(shipped("lorawan-codecs", "chirpstack"), ("application/x/device/0a0b/event/up", json.dumps(payload).encode()))
        names = CODEC_FIELDS[vector["device"].split()[0]]
        expected = {ours: vector["data"][theirs] for theirs, ours in names.items()}
        assert {one.metric: one.value for one in told(decoded)} == pytest.approx(expected)
        assert not decoded.refusals


def exported(
    by: RowDecoder, topic: str, file: str, *, rows: int | None = None, header: int = 1
) -> tuple[list[Told], Counter[tuple[str, str]]]:
    """Return what an export says: the whole file as one message, or `rows` of it a message, each below the first `header` lines."""
    text = (DATA / file).read_bytes()
    readings: list[Told] = []
    refusals: Counter[tuple[str, str]] = Counter()
    for payload in [text] if rows is None else cut(text, rows, header):
        decoded = read(by, (topic, payload))
        readings += told(decoded)
        refusals.update(refused(decoded.refusals))
    return readings, refusals


def cut(text: bytes, rows: int, header: int) -> Iterator[bytes]:
    lines = text.splitlines()
    head, body = lines[:header], lines[header:]
    for at in range(0, len(body), rows):
        yield b"\n".join([*head, *body[at : at + rows]])


@real
def test_qtag_exports():
    readings, refusals = exported(shipped("qtag"), "exports/qtag/x", "qtag-logger/qtag_clm_RCPJ00010_run02.txt")
    assert (len(readings), refusals) == (124, {})
    assert readings[0] == Told("RCPJ00010", "temperature", 4.4, ms("2022-11-08T04:49:00+00:00"))
    assert sum(one.value for one in readings) / 124 == pytest.approx(5.461, abs=0.001)
    readings, refusals = exported(shipped("qtag"), "exports/qtag/x", "qtag-logger/fridgetag2_130400191544.txt")
    assert refusals == {}
    assert max((one.time_ms, one.value) for one in readings) == (ms("2023-04-20T14:33:00+00:00"), 8.0)
    assert len(readings) == 8, "the lowest and the highest of four days"


@real
def test_wearables():
    """-1 and -2 are how the watch says that it could not measure; 2,111 stress scores with 97 of them, 8,748 heart rates with one."""
    readings, refusals = exported(shipped("wearables"), "exports/garmin/watch", "wearables/garmin_data.csv", rows=500, header=0)
    assert Counter(one.metric for one in readings) == {"interbeat_interval": 14_316, "heart_rate": 8_747, "stress": 2_014, "steps": 96}
    assert refusals == {("stress", Reason.NOT_MEASURED): 97, ("heart_rate", Reason.NOT_MEASURED): 1}
    assert readings[0].time_ms == ms("2019-10-16T12:08:58.041+02:00")

    for name, count, first, step_ms in (("HR", 4998, ("heart_rate", 93.0), 1000), ("TEMP", 4998, ("skin_temperature", 32.13), 250)):
        readings, refusals = exported(shipped("wearables"), f"exports/empatica/band/{name.lower()}", f"wearables/empatica_{name}.csv")
        assert (len(readings), refusals) == (count, {})
        assert (readings[0].metric, readings[0].value) == first
        assert {later - earlier for earlier, later in pairwise(one.time_ms or 0 for one in readings)} == {step_ms}
    readings, refusals = exported(shipped("wearables"), "exports/empatica/band/ibi", "wearables/empatica_IBI.csv")
    assert (len(readings), refusals) == (4999, {})
    assert readings[0] == Told("band", "interbeat_interval", 0.609403, round(1_560_279_825_000 + 83_503.822))


@real
def test_the_freezer_and_its_error_code():
    """The sample has 148 rows and, in spite of its maker's notes, no 882.6; where one comes, it is no temperature."""
    by = shipped("freezer", zone="Europe/Amsterdam")
    readings, refusals = exported(by, "exports/freezer/f1", "freezer-sample/135_1570_sample.csv")
    counts = Counter(one.metric for one in readings)
    assert counts["temperature"] == counts["door"] == 148
    assert refusals == {}
    assert readings[0] == Told("f1", "temperature", 0.0, ms("2022-10-20T16:02:00+02:00"))
    head = (DATA / "freezer-sample/135_1570_sample.csv").read_bytes().splitlines()[0]
    decoded = read(by, ("exports/freezer/f1", head + b"\n2022-10-20 16:02:00,882.6,882.60,22.60,23.30,22.50,22.40,1.00\n"))
    assert refused(decoded.refusals) == [("temperature", Reason.NOT_MEASURED), ("second_temperature", Reason.NOT_MEASURED)]


@real
def test_intensive_care():
    """Every observation is read as it was filed; what cannot be true (Fahrenheit as Celsius, a pressure of -27) the engine refuses."""
    readings, refusals = exported(shipped("clif"), "exports/clif/vitals", "clif-vitals/vitals.csv", rows=500)
    assert (len(readings), refusals) == (53_860, {})
    assert len({one.device for one in readings}) == 73
    readings, refusals = exported(shipped("clif"), "exports/clif/assessments", "clif-vitals/assessments.csv", rows=500)
    assert Counter(one.metric for one in readings) == {"gcs": 2154, "rass": 1729, "cam_positive": 697}
    assert refusals == {}
    readings, refusals = exported(shipped("clif"), "exports/clif/respiratory", "clif-vitals/respiratory_support.csv", rows=500)
    assert Counter(one.metric for one in readings) == {"oxygen": 1566, "fio2": 1091, "respiratory_rate": 865, "oxygen_flow": 749}
    assert refusals == {("oxygen", Reason.NOT_MEASURED): 1}


@real
def test_rows_of_time_and_value():
    by, topic = shipped("time-value"), "exports/time-value/fahrenheit"
    readings, refusals = exported(by, f"{topic}/room", "nab-temperature/ambient_temperature_system_failure.csv", rows=500)
    assert (len(readings), refusals) == (7267, {})
    assert readings[0].value == pytest.approx((69.88083514 - 32) / 1.8)
    readings, refusals = exported(by, f"{topic}/m", "nab-temperature/machine_temperature_system_failure.csv", rows=500)
    assert (len(readings), refusals) == (22_695, {})
    times = [one.time_ms for one in readings]
    assert len(times) - len(set(times)) == 12, "the clock was put back once"


def test_all_shipped_mappings_stand_together():
    """Whoever names several of them gets no two meanings of one metric, and no two mappings of one name."""
    documents = [(name, adapted(read_document(name), {"zone": "UTC"}, name)) for name in shipped_names()]
    library = gathered(documents, {})
    assert len(library.mappings) == sum(len(document.mappings) for _, document in documents)


@pytest.mark.parametrize("name", shipped_names())
def test_a_mapping_is_the_same_when_it_comes_back_from_the_journal(name):
    for mapping, plain in zip(read_document(name).mappings, as_plain(read_document(name).mappings), strict=True):
        assert MappingModel.model_validate(json.loads(json.dumps(plain))) == mapping


def test_what_a_configuration_changes_in_a_shipped_mapping():
    document = adapted(read_document("time-value"), {"zone": "Asia/Tokyo", "kind": "patient", "names": {"a b": "ab"}}, "time-value")
    assert {mapping.kind for mapping in document.mappings} == {"patient"}
    assert all(mapping.time.zone == "Asia/Tokyo" for mapping in document.mappings)
    assert document.mappings[0].names == {"a b": "ab"}
