"""The two dashboards: what somebody who answers for shipments, or for a ward, wants to see first."""

from dashboards import queries
from dashboards.panels import (
    BLUE,
    DARK_RED,
    GREEN,
    GREY,
    NOTICE,
    ORANGE,
    RED,
    YELLOW,
    Json,
    Place,
    Steps,
    alert_timeline,
    dashboard,
    stat,
    states,
    table,
    target,
    text,
    timeseries,
)

PLAIN = Steps(GREEN)
COLD_CHAIN = Steps(BLUE, [(2, GREEN), (8, RED)])  # the 2 to 8 degrees of most vaccines and many medicines
SATURATION = Steps(RED, [(90, ORANGE), (94, GREEN)])
HEART_RATE = Steps(RED, [(40, ORANGE), (50, GREEN), (120, ORANGE), (130, RED)])
BREATHING = Steps(RED, [(8, ORANGE), (12, GREEN), (25, RED)])
CHARGE = Steps(RED, [(15, ORANGE), (30, GREEN)])
NONE_IS_GOOD = Steps(GREEN, [(1, RED)])
NONE_IS_BETTER = Steps(GREEN, [(1, YELLOW)])

PHASES = {
    "raised": ("raised", RED),
    "amended": ("amended", ORANGE),
    "escalated": ("escalated", DARK_RED),
    "deescalated": ("deescalated", ORANGE),
    "resolved": ("resolved", GREEN),
    "retracted": ("retracted", GREY),
}
DOOR = {"0": ("closed", GREEN), "1": ("open", ORANGE)}


def shipments() -> Json:
    """Return the shipments' dashboard: temperature against its bounds, doors, humidity, batteries, and the alerts."""
    kind = "shipment"
    names = "$tag_subject $tag_device"
    panels = [
        *_open_alerts(kind),
        stat("Warmest now", Place(6, 0, 4, 4), [target(queries.extreme(kind, "temperature", "max"))], "celsius", COLD_CHAIN),
        stat("Coldest now", Place(10, 0, 4, 4), [target(queries.extreme(kind, "temperature", "min"))], "celsius", COLD_CHAIN),
        stat("Doors open", Place(14, 0, 4, 4), [target(queries.extreme(kind, "door", "sum"))], "none", NONE_IS_BETTER),
        stat("Lowest battery", Place(18, 0, 6, 4), [target(queries.extreme(kind, "battery", "min"))], "percent", CHARGE),
        timeseries("Temperature", Place(0, 4, 24, 9), [target(queries.readings(kind, "temperature"), names)], "celsius", COLD_CHAIN),
        states("Doors", Place(0, 13, 12, 6), [target(queries.readings(kind, "door", "max"), names)], DOOR),
        alert_timeline("Alerts by shipment and rule", Place(12, 13, 12, 6), queries.alert_phases(kind), PHASES),
        timeseries(
            "Temperature windows: least, mean and greatest",
            Place(0, 19, 24, 8),
            [
                target(queries.windows(kind, "temperature", "mean", "mean"), "$tag_subject mean", "A"),
                target(queries.windows(kind, "temperature", "min", "min"), "$tag_subject least", "B"),
                target(queries.windows(kind, "temperature", "max", "max"), "$tag_subject greatest", "C"),
            ],
            "celsius",
            COLD_CHAIN,
        ),
        timeseries("Humidity", Place(0, 27, 12, 7), [target(queries.readings(kind, "humidity"), names)], "humidity", PLAIN),
        timeseries("Battery", Place(12, 27, 12, 7), [target(queries.readings(kind, "battery", "min"), names)], "percent", CHARGE),
        table("Alert events", Place(0, 34, 24, 9), queries.alert_events(kind), PHASES, ["started_at_ms"]),
        text(Place(0, 43, 24, 2), NOTICE),
    ]
    return dashboard(
        "vitalane-shipments",
        "Vitalane: shipments",
        panels,
        subjects=queries.subjects(kind),
        noun="Shipment",
        span="24h",
        refresh="30s",
        alerts=queries.alert_phases(kind),
    )


def ward() -> Json:
    """Return the ward's dashboard: the newest vital signs of each patient, their course, and the alerts."""
    kind = "patient"
    named = "$tag_subject"
    pressures = [("sbp", "systolic"), ("dbp", "diastolic"), ("map", "mean")]
    panels = [
        *_open_alerts(kind),
        stat("Oxygen saturation now", Place(6, 0, 9, 4), [target(queries.newest(kind, "spo2"), named)], "percent", SATURATION, named=True),
        stat(
            "Heart rate now",
            Place(15, 0, 9, 4),
            [target(queries.newest(kind, "heart_rate"), named)],
            "suffix: /min",
            HEART_RATE,
            named=True,
        ),
        timeseries("Oxygen saturation", Place(0, 4, 12, 8), [target(queries.readings(kind, "spo2"), named)], "percent", SATURATION),
        timeseries("Heart rate", Place(12, 4, 12, 8), [target(queries.readings(kind, "heart_rate"), named)], "suffix: /min", HEART_RATE),
        timeseries(
            "Respiratory rate", Place(0, 12, 12, 7), [target(queries.readings(kind, "respiratory_rate"), named)], "suffix: /min", BREATHING
        ),
        timeseries(
            "Blood pressure",
            Place(12, 12, 12, 7),
            [
                target(queries.readings(kind, metric), f"$tag_subject {words}", ref)
                for ref, (metric, words) in zip("ABC", pressures, strict=True)
            ],
            "suffix: mmHg",
            PLAIN,
        ),
        timeseries("Body temperature", Place(0, 19, 12, 7), [target(queries.readings(kind, "body_temperature"), named)], "celsius", PLAIN),
        alert_timeline("Alerts by patient and rule", Place(12, 19, 12, 7), queries.alert_phases(kind), PHASES),
        timeseries(
            "Oxygen saturation, lowest of each window",
            Place(0, 26, 24, 7),
            [target(queries.windows(kind, "spo2", "min", "min"), named)],
            "percent",
            SATURATION,
        ),
        table("Alert events", Place(0, 33, 24, 9), queries.alert_events(kind), PHASES, ["started_at_ms"]),
        text(Place(0, 42, 24, 2), NOTICE),
    ]
    return dashboard(
        "vitalane-ward",
        "Vitalane: ward",
        panels,
        subjects=queries.subjects(kind),
        noun="Patient",
        span="1h",
        refresh="5s",
        alerts=queries.alert_phases(kind),
    )


def _open_alerts(kind: str) -> list[Json]:
    return [
        stat(title, Place(x, 0, 3, 4), [target(queries.open_alerts(kind, severity))], "none", steps, no_value="0")
        for x, title, severity, steps in (
            (0, "Critical alerts open", "critical", NONE_IS_GOOD),
            (3, "Warnings open", "warning", NONE_IS_BETTER),
        )
    ]


BOARDS = {"shipments.json": shipments, "ward.json": ward}
"""File -> what makes it."""
