"""InfluxDB for real: what is written is read back by InfluxQL, whatever happened in between; and every answer means one thing."""

import gzip
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alerts.message import compose_with
from journal.rows import RowKind
from sinks.backoff import Backoff
from sinks.delivery import ChannelDelivery
from sinks.influxdb import InfluxDb
from sinks.ledger import ChannelLedger
from sinks.outbox import Outbox
from sinks.sink import PartlyRejected
from sinks.store_ledger import StoreLedger
from sinks.storing import StoreDelivery
from sinks.webhook import Webhook
from telemetry.errors import Rejected, Transient, VitalaneError
from telemetry.readings import SeriesKey
from tests.servers import Influx
from tests.sinks.parts import (
    START_MS,
    Answer,
    OutboxFile,
    Receiver,
    Request,
    alert_row,
    event,
    eventually,
    readings,
    row,
    running,
    series,
    some_books,
    windows,
)

servers = pytest.mark.servers
QUICK = Backoff(base_s=0.01, cap_s=0.1)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def store(server: Influx, **options: Any) -> InfluxDb:
    bucket, token = options.pop("bucket", server.database), options.pop("token", server.token)
    return InfluxDb(server.url, server.org, bucket, token, **options)


def fake(receiver: Receiver, **options) -> InfluxDb:
    return InfluxDb(f"http://127.0.0.1:{receiver.port}", "org", "bucket", "token", **options)


def refusal(status: int, message: str, **more) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, body=json.dumps({"code": "invalid", "message": message, **more}).encode())


def lines_of(request: Request) -> list[str]:
    return gzip.decompress(request.body).decode().split("\n")


def delivery(tmp_path: Path, stop: threading.Event, influx: InfluxDb) -> StoreDelivery:
    ledger, outbox = StoreLedger(tmp_path / "delivery-influxdb.db"), Outbox({0: tmp_path / "outbox-0.db"})
    return StoreDelivery("influxdb", influx, ledger, outbox, stop, pause_s=0.01, backoff=QUICK)


def ledger(tmp_path: Path) -> StoreLedger:
    return StoreLedger(tmp_path / "delivery-influxdb.db", serve=False)


def count(server: Influx, measurement: str, field: str) -> int:
    return sum(found["count"] for found in server.query(f'SELECT count("{field}") FROM "{measurement}"'))


@servers
def test_what_is_written_is_read_back(influxd: Influx) -> None:
    odd = SeriesKey("patient", 'bed 7, "left" = right', "mon,1", "spo2")
    influx = store(influxd)
    rows = [
        row(RowKind.READINGS, readings([4.2, 97.0, 4.3], keys=[series(1), odd])),
        row(RowKind.WINDOWS, windows(3), 1),
        alert_row(event(1), 2),
        alert_row(event(2, value=None, message="ü"), 3),
        row(RowKind.BOOKS, some_books(2, 10), 4),
        row(RowKind.QUARANTINE, b"[]", 5),
    ]
    influx.write(rows)
    influx.write(rows)  # twice is once
    found = influxd.query("SELECT * FROM readings WHERE kind = 'shipment'")
    assert [(item["time"], item["value"], item["subject"], item["device"], item["metric"]) for item in found] == [
        (START_MS * 1_000_000, 4.2, "shipment-1", "logger-1", "temperature"),
        ((START_MS + 2000) * 1_000_000, 4.3, "shipment-1", "logger-1", "temperature"),
    ]
    (patient,) = influxd.query("SELECT * FROM readings WHERE kind = 'patient'")
    assert (patient["subject"], patient["device"]) == (odd.subject, odd.device)
    assert [item["mean"] for item in influxd.query("SELECT mean FROM windows")] == [4.0, 4.001, 4.002]
    one, two = influxd.query("SELECT * FROM alerts")
    assert (one["event_id"], one["value"], one["threshold"], one["historic"], one["severity"], one["revision"]) == (
        *(event(1).event_id, 9.25, 8.0, False, "critical", 1),
    )
    assert (one["time"], two["time"]) == ((START_MS + 40) * 1_000_000 + 2, (START_MS + 40) * 1_000_000 + 3)
    assert two["value"] is None
    (books,) = influxd.query("SELECT * FROM books")
    assert (books["partition"], books["received"], books["quarantined"], books["quarantined_malformed"]) == ("2", 10, 2, 1)
    influx.close()


@servers
def test_every_bit_of_a_number_arrives(influxd: Influx) -> None:
    values = [0.1, -0.0, 1e-300, 1.7976931348623157e308, 5e-324, math.pi, 1e22, 123456789.123456789]
    influx = store(influxd)
    influx.write([row(RowKind.READINGS, readings(values))])
    assert [item["value"] for item in influxd.query("SELECT value FROM readings")] == values
    influx.close()


@servers
def test_an_outage_delays_points_and_no_alert(
    influxd: Influx, tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile, receiver: Receiver
) -> None:
    """Down at the start, back, killed under load, back: every point arrives, once; the webhook hears of every alert all the while."""
    influxd.kill()
    hook = Webhook("pager", receiver.url, [SECRET], compose_with(None), allow_private=True)
    outbox, channel_ledger = Outbox({0: outbox_file.path}), ChannelLedger(tmp_path / "delivery-pager.db")
    telling = ChannelDelivery(hook, lambda _: True, channel_ledger, outbox, stop)
    batches = 0

    def some(count: int) -> None:
        nonlocal batches
        for _ in range(count):
            body = readings([float(batches)] * 100, first_ms=START_MS + batches * 1_000_000, step_ms=1)
            outbox_file.append((RowKind.READINGS, body))
            outbox_file.alerts(event(batches))
            batches += 1

    with running(stop, delivery(tmp_path, stop, store(influxd, timeout_s=5.0)), telling):
        some(10)
        eventually(lambda: len(receiver.accepted) == 10)
        assert ledger(tmp_path).cursor() == {}, "nothing can have been stored yet"
        influxd.start()
        eventually(lambda: ledger(tmp_path).counts().delivered >= 20)
        some(5)
        influxd.kill()
        some(10)
        eventually(lambda: len(receiver.accepted) == 25)
        influxd.start()
        some(5)
        eventually(lambda: ledger(tmp_path).counts().delivered == 60)
        eventually(lambda: len(receiver.accepted) == 30)
    assert count(influxd, "readings", "value") == 3000
    assert count(influxd, "alerts", "alert_id") == 30
    assert ledger(tmp_path).dead() == []
    ids = [request.headers["webhook-id"] for request in receiver.accepted]
    assert sorted(ids) == sorted({event(number).event_id for number in range(30)}), "each once"


@servers
def test_a_wrong_token_waits_for_the_right_one(
    start_influxd: Callable[..., Influx], tmp_path: Path, outbox_file: OutboxFile, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_influxd(auth=True)
    outbox_file.append((RowKind.READINGS, readings([1.0])))
    first = threading.Event()
    with running(first, delivery(tmp_path, first, store(server, token="vitalane:wrong"))):
        eventually(lambda: "refuses the token (401)" in caplog.text)
    assert "wrong" not in caplog.text, "no token in a log"
    assert caplog.text.count("sinks.store_failed") == 1
    second = threading.Event()
    with running(second, delivery(tmp_path, second, store(server))):
        eventually(lambda: ledger(tmp_path).counts().delivered == 1)
    assert count(server, "readings", "value") == 1


@servers
def test_a_bucket_that_does_not_exist_waits_for_it(influxd: Influx) -> None:
    influx = store(influxd, bucket="absent")
    with pytest.raises(Transient, match="has no bucket 'absent'"):
        influx.write([row(RowKind.READINGS, readings([1.0]))])
    influxd.query("CREATE DATABASE absent", database=None)
    influx.write([row(RowKind.READINGS, readings([1.0]))])
    influx.close()


@servers
def test_a_field_of_another_type_costs_its_points_only(
    influxd: Influx, tmp_path: Path, stop: threading.Event, outbox_file: OutboxFile
) -> None:
    """Somebody wrote `value` as text once: InfluxDB refuses numbers there for ever, in that shard."""
    influxd.write(f'readings,device=other value="text" {START_MS}000000')
    week_ms = 7 * 86_400_000
    later = readings([5.0, 6.0], first_ms=START_MS + 2 * week_ms)
    outbox_file.append((RowKind.WINDOWS, windows(3)), (RowKind.READINGS, readings([1.0, 2.0, 3.0])), (RowKind.READINGS, later))
    outbox_file.alerts(event(1))
    with running(stop, delivery(tmp_path, stop, store(influxd))):
        eventually(lambda: ledger(tmp_path).counts().decided == 4)
    assert ledger(tmp_path).counts()[:4] == (4, 3, 0, 1)
    letters = ledger(tmp_path).dead()
    assert len(letters) == 3
    assert all("field type conflict" in letter.why for letter in letters)
    assert {letter.body.split(b" ")[1] for letter in letters} == {b"value=1.0", b"value=2.0", b"value=3.0"}
    assert count(influxd, "windows", "mean") == 3
    assert count(influxd, "alerts", "alert_id") == 1
    found = influxd.query(f"SELECT value FROM readings WHERE time > {START_MS + week_ms}000000")
    assert [item["value"] for item in found] == [5.0, 6.0]


@servers
def test_points_that_a_retention_policy_refuses_are_dead_letters_and_can_be_tried_again(
    influxd: Influx, tmp_path: Path, outbox_file: OutboxFile
) -> None:
    """The operator makes room, asks for the letters to be tried again, and they are letters no more."""
    influxd.query(f'CREATE RETENTION POLICY short ON "{influxd.database}" DURATION 1h REPLICATION 1 SHARD DURATION 1h', database=None)
    outbox_file.append((RowKind.READINGS, readings([1.0, 2.0], first_ms=1_000_000_000_000)))
    stop = threading.Event()
    with running(stop, delivery(tmp_path, stop, store(influxd, bucket=f"{influxd.database}/short"))):
        eventually(lambda: ledger(tmp_path).counts().decided == 1)
        assert len(ledger(tmp_path).dead()) == 2
        assert all("retention policy" in letter.why for letter in ledger(tmp_path).dead())
        influxd.query(f'ALTER RETENTION POLICY short ON "{influxd.database}" DURATION INF SHARD DURATION 1h', database=None)
        ledger(tmp_path).retry()
        eventually(lambda: ledger(tmp_path).dead() == [])
    assert ledger(tmp_path).counts()[:4] == (1, 1, 0, 0)


@servers
def test_more_than_one_request_holds_is_several(influxd: Influx) -> None:
    influx = store(influxd, max_lines=100, max_bytes=5_000)
    influx.write([row(RowKind.READINGS, readings([1.0] * 1050, step_ms=1))])
    assert count(influxd, "readings", "value") == 1050
    influx.close()


@servers
def test_requests_are_gzip_with_the_precision_said(receiver: Receiver) -> None:
    influx = fake(receiver)
    influx.write([row(RowKind.READINGS, readings([1.0, 2.0]))])
    (request,) = receiver.requests
    assert request.path == "/api/v2/write?org=org&bucket=bucket&precision=ns"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["authorization"] == "Token token"
    assert len(lines_of(request)) == 2
    influx.close()


@servers
def test_nothing_to_write_is_no_request(receiver: Receiver) -> None:
    influx = fake(receiver)
    influx.write([])
    influx.write([row(RowKind.QUARANTINE, b"[]")])
    assert receiver.requests == []
    influx.close()


def judge_bad(bad: set[str], *, name_lines: bool = False, dropped: bool = False) -> Callable[[Request], Answer | None]:
    """Refuse requests with one of these values in them, in the words of one of the versions."""

    def judge(request: Request) -> Answer | None:
        lines = lines_of(request)
        wrong = [line for line in lines if line.split(" ")[1] in bad]
        if not wrong:
            return None
        if name_lines:
            return refusal(400, f"unable to parse '{wrong[0]}': bad number")
        return refusal(422, "partial write: field type conflict" + (f" dropped={len(wrong)}" if dropped else ""))

    return judge


@servers
@pytest.mark.parametrize("words", [{}, {"dropped": True}, {"name_lines": True}], ids=str)
@pytest.mark.parametrize(
    "bad", [{0}, {99}, {13, 14, 60}, set(range(100)), set(range(0, 100, 2))], ids=["first", "last", "three", "all", "half"]
)
def test_bad_lines_are_found_and_everything_else_is_written(receiver: Receiver, words: dict, bad: set[int]) -> None:
    values = {f"value={float(number)!r}" for number in bad}
    receiver.judge = judge_bad(values, **words)
    influx = fake(receiver)
    with pytest.raises(PartlyRejected) as raised:
        influx.write([row(RowKind.READINGS, readings([float(number) for number in range(start, start + 50)])) for start in (0, 50)])
    assert {part.body.decode().split(" ")[1] for part in raised.value.parts} == values
    assert {part.row for part in raised.value.parts} == {number // 50 for number in bad}
    written = {line.split(" ")[1] for request in receiver.accepted for line in lines_of(request)}
    assert written == {f"value={float(number)!r}" for number in set(range(100)) - bad}
    influx.close()


@servers
def test_all_bad_is_known_from_the_count_of_the_dropped(receiver: Receiver) -> None:
    """Ten thousand bad points are one request, not twenty thousand."""
    receiver.judge = judge_bad({"value=1.0"}, dropped=True)
    influx = fake(receiver)
    with pytest.raises(PartlyRejected) as raised:
        influx.write([row(RowKind.READINGS, readings([1.0] * 10_000))])
    assert len(raised.value.parts) == 10_000
    assert len(receiver.requests) == 1
    influx.close()


@servers
def test_lines_that_version_3_names_by_number_are_found_at_once(receiver: Receiver) -> None:
    data = [{"line_number": 2, "error_message": "bad type", "original_line": "..."}]
    receiver.answers = [Answer(400, body=json.dumps({"error": "partial write of line protocol occurred", "data": data}).encode())]
    influx = fake(receiver)
    with pytest.raises(PartlyRejected) as raised:
        influx.write([row(RowKind.READINGS, readings([1.0, 2.0, 3.0]))])
    ((number, body, why),) = raised.value.parts
    assert (number, body.split(b" ")[1], why) == (0, b"value=2.0", "bad type")
    assert [len(lines_of(request)) for request in receiver.requests] == [3, 2]
    influx.close()


@servers
def test_too_large_is_halved(receiver: Receiver) -> None:
    receiver.judge = lambda request: Answer(413) if len(lines_of(request)) > 30 else None
    influx = fake(receiver)
    influx.write([row(RowKind.READINGS, readings([float(number) for number in range(100)]))])
    written = [line for request in receiver.accepted for line in lines_of(request)]
    assert len(written) == len(set(written)) == 100
    receiver.judge = lambda _: Answer(413)
    with pytest.raises(PartlyRejected, match="refuses 2 points"):
        influx.write([row(RowKind.READINGS, readings([1.0, 2.0]))])
    influx.close()


@servers
@pytest.mark.parametrize(
    ("answer", "words", "after_s"),
    [
        (refusal(401, "unauthorized access"), r"refuses the token \(401\)", None),
        (refusal(403, "forbidden"), r"refuses the token \(403\)", None),
        (refusal(404, "bucket not found"), "has no bucket 'bucket' in organisation 'org'", None),
        (Answer(429, {"Retry-After": "9"}), "answers 429", 9.0),
        (Answer(503, {"Retry-After": "3"}, body=b'{"message": "overloaded"}'), "answers 503: overloaded", 3.0),
        (refusal(500, "timeout"), "answers 500: timeout", None),
        (Answer(502, body=b"<html>bad gateway</html>"), "answers 502$", None),
        (Answer(400, body=b"<html>The plain HTTP request was sent to HTTPS port</html>"), "answers 400$", None),
        (Answer(400, body=b'["no", "object"]'), "answers 400$", None),
        (Answer(500, body=b"\xff\xfe"), "its error is not text", None),
        (Answer(302, {"Location": "http://127.0.0.1:1/"}), "answers 302", None),
        (Answer(418), "answers 418", None),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else "",
)
def test_what_may_pass_or_can_be_mended_is_tried_again(receiver: Receiver, answer: Answer, words: str, after_s: float | None) -> None:
    """Even 400, where it is not InfluxDB that says so: a proxy's opinion must not kill points."""
    receiver.answers = [answer]
    influx = fake(receiver)
    with pytest.raises(Transient, match=words) as raised:
        influx.write([row(RowKind.READINGS, readings([1.0]))])
    assert raised.value.retry_after_s == after_s
    influx.write([row(RowKind.READINGS, readings([1.0]))])
    influx.close()


@servers
def test_no_answer_is_tried_again(receiver: Receiver, free_port: int) -> None:
    receiver.answers = [Answer(204, delay_s=10)]
    influx = fake(receiver, timeout_s=0.2)
    with pytest.raises(Transient, match="does not answer"):
        influx.write([row(RowKind.READINGS, readings([1.0]))])
    influx.close()
    nobody = InfluxDb(f"http://127.0.0.1:{free_port}", "org", "bucket", "token")
    with pytest.raises(Transient, match="does not answer"):
        nobody.write([row(RowKind.READINGS, readings([1.0]))])
    nobody.close()
    nobody.close()


@servers
def test_what_cannot_be_said_or_read_is_refused_and_nothing_else(receiver: Receiver) -> None:
    influx = fake(receiver)
    bad = SeriesKey("shipment", "a\\", "d", "temperature")
    with pytest.raises(PartlyRejected) as parts:
        influx.write([row(RowKind.READINGS, readings([1.0, 2.0], keys=[series(1), bad])), row(RowKind.READINGS, readings([math.nan]))])
    assert [(part.row, part.why) for part in parts.value.parts] == [
        (0, "a name cannot end in a backslash"),
        (1, "a value that is not finite"),
    ]
    assert len(receiver.requests) == 1
    with pytest.raises(Rejected) as rows:
        influx.write([row(RowKind.READINGS, readings([1.0])), row(RowKind.ALERT, b"{}")])
    assert set(rows.value.reasons) == {1}
    influx.close()


@pytest.mark.parametrize("url", ["", "localhost:8086", "ftp://host", "http://user:secret@host:8086"])
def test_what_is_no_address_is_one_sentence(url: str) -> None:
    with pytest.raises(VitalaneError, match="needs a URL") as raised:
        InfluxDb(url, "org", "bucket", "token")
    assert "secret" not in str(raised.value)


def test_the_background_batching_of_the_client_is_never_used() -> None:
    """It drops what it cannot write after some minutes, at exit, or when its thread dies."""
    source = Path(__file__).parents[2].joinpath("sinks", "influxdb.py").read_text()
    assert "write_api" not in source
    assert "WriteOptions" not in source
