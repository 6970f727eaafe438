"""A good message or two for each decoder, to grow bad ones from, and the topics that lead to it."""

from decoders.library import read_document, shipped_names
from decoders.wire import Sample, encode_batch, encode_reading, encode_series, encode_values
from simulators.exports import topic_for
from tests.edge_nodes import EdgeNode, Value

T = 1_763_674_000_000

_NODE = EdgeNode()

SAMPLES: dict[str, list[bytes]] = {
    "readings": [
        encode_reading("temperature", 4.2, T, "Cel"),
        encode_values({"temperature": 4.2, "door": 1}, T),
        encode_batch([Sample("spo2", 97, T), Sample("spo2", 96, T + 1000)]),
        encode_series({"spo2": [97, None], "heart_rate": [70, 71]}, [T, T + 1000]),
        b'{"v":2,"time":1763674000000,"every_ms":1000,"values":{"spo2":[97,96]},"units":{"spo2":"%"}}',
    ],
    "senml": [
        b'[{"bn":"urn:dev:x:","bt":1.763674e9,"bu":"Cel","n":"temperature","v":4.2,"ut":60},{"n":"humidity","u":"%RH","t":-5,"v":40}]',
        b'[{"n":"door","vb":true},{"n":"label","vs":"x"},{"n":"d","vd":"aGk"},{"n":"battery","s":7}]',
        bytes.fromhex("82a4216364657622fb41da47b0e4000000006b74656d706572617475726502fb4010cccccccccccda200683a64656c746102f93e00"),
    ],
    "status": [b"online", b"offline", b'{"v":1,"status":"online","device":"truck-1","time":1763674000000}'],
    "sparkplug": [
        _NODE.nbirth([Value("temperature", 4.2, "Double", alias=1, unit="Cel")], T)[1],
        _NODE.dbirth("probe", [Value("humidity", 40, "Int16", alias=2)], T)[1],
        _NODE.data("probe", Value("humidity", 41, "Int16", alias=2, time_ms=T))[1],
        _NODE.ndeath()[1],
    ],
    "chirpstack": [
        b'{"time":"2022-07-18T09:34:15.775023242+00:00","deviceInfo":{"devEui":"export-1"},"fPort":1,"object":{"temperature":4.5,"door":"open"}}',
        b'{"time":"2022-07-18T09:34:15Z","deviceInfo":{"devEui":"export-1"},"margin":10,"batteryLevel":88.3}',
    ],
    "lorawan-codecs": [b'{"time":"2022-07-18T09:34:15Z","deviceInfo":{"devEui":"export-1"},"fPort":2,"data":"y/YLDQN2AQrdf/8="}'],
    "the-things-stack": [
        b'{"end_device_ids":{"device_id":"export-1"},"uplink_message":{"decoded_payload":{"temperature":1},"received_at":"2020-02-12T15:15:45Z"}}'
    ],
    "zigbee2mqtt": [b'{"temperature":27.34,"humidity":44.72,"contact":false,"battery":88}', b"online"],
    "tasmota": [
        b'{"Time":"2023-05-28T20:04:27","SCD40":{"CarbonDioxide":618,"Temperature":23.8},"TempUnit":"C"}',
        b"Online",
    ],
    "thingsboard": [
        b'{"humidity":{"values":[{"ts":1741356882759,"value":43},{"ts":1741356918779,"value":46}]}}',
        b'[{"ts":1741356882759,"values":{"temperature":4}}]',
        b'{"temperature":4}',
    ],
    "ruuvi": [b"0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F"],
    "qtag": [
        b"Device: Q-tag CLm doc LR\n Serial: RC1\nData:\n\t2022-11-08 04:49\t4.4\t\n\t2022-11-08 04:59\t3.2\t\n",
        b"Device: Q-tag Fridge-tag\n Serial: 12\n  Date: 2023-04-20\n  Min T: +2.0, TS Min T: 13:30\n  Max T: +8.0, TS Max T: 14:33\n",
    ],
    "wearables": [
        b"2019-10-16T12:08:58.041+02:00;HEART_RATE;70.0\n2019-10-16T12:08:59.041+02:00;STRESS;-1.0",
        b"1560279835.000000\n1.000000\n93.00\n101.00\n",
        b"1560279825.000000, IBI\n83.503822,0.609403\n",
    ],
    "freezer": [b"timestamp,sGekoeldeRuimte,sDeurcontact\n2022-10-20 16:02:00,882.6,0.00\n2022-10-20 16:03:00,-18.5,1\n"],
    "clif": [
        b"hospitalization_id,recorded_dttm,vital_category,vital_value\n7,2113-08-25T17:32:00Z,heart_rate,80.0\n",
        b"hospitalization_id,recorded_dttm,device_category,fio2_set\n7,2113-08-25T17:32:00Z,IMV,0.7\n",
    ],
    "time-value": [b"timestamp,value\n2013-07-04 00:00:00,69.88\n"],
}

OURS = ("readings", "senml", "status", "sparkplug")


def topics_of(decoder: str) -> list[bytes]:
    """Return topics that lead to a decoder: one of our forms, or a document of the library."""
    if decoder == "sparkplug":
        return [
            _NODE.topic("NBIRTH"),
            _NODE.topic("DBIRTH", "probe"),
            _NODE.topic("DDATA", "probe"),
            _NODE.topic("NDATA"),
            _NODE.topic("NDEATH"),
        ]
    if decoder in OURS:
        return [f"vitalane/v1/shipment/truck-1/{decoder}".encode()]
    return list(dict.fromkeys(topic_for(mapping, "export-1").encode() for mapping in read_document(decoder).mappings))


DECODERS = (*OURS, *shipped_names())
