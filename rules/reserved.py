"""The rules of the engine's own and what they tell, of devices that misbehave or break their word. No rule file may use their names.

Apart from what decides them, so that who reads rule files loads no engine.
"""

CLOCK, LATE, FLOOD, SCHEMA, MALFORMED, MISMATCH, UNKNOWN, OVERDUE = (
    "device-clock-ahead", "device-too-late", "device-flood", "device-schema", "device-malformed", "device-mismatch", "unknown-device",
    "device-overdue",
)  # fmt: skip

RESERVED = {
    CLOCK: "{subject}: the clock of a device is ahead, its readings are not taken since {started_at}",
    LATE: "{subject}: readings of a device come too late to be judged since {started_at}",
    FLOOD: "{subject}: a device sends far more than it should since {started_at}, most is left out",
    SCHEMA: "{subject}: the messages of a device have another form since {started_at}",
    MALFORMED: "{subject}: many messages of a device cannot be read since {started_at}",
    MISMATCH: "{subject}: messages on the topic of a device name another device since {started_at}",
    UNKNOWN: "{subject}: a device that nobody registered publishes since {started_at}, its readings are not taken",
    OVERDUE: "{subject}: a device has not sent what it promised to send, since {started_at}",
}
