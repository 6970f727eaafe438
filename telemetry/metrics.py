"""The catalogue: what each metric measures, in which unit, and what it can plausibly be. Data, not logic.

Units are UCUM codes. Plausible bounds are inclusive; outside them a value is an error of the sensor or its wiring, not a measurement.
Bounds of vital signs follow the MIMIC code repository (mimic-iv/concepts/measurement/vitalsign.sql), widened to 0 where a live
monitor can show it (asystole, apnoea); the others are the ranges of common sensors and are defaults to be set by configuration.
"""

from typing import NamedTuple


class Metric(NamedTuple):
    name: str
    unit: str  # UCUM
    low: float  # the lowest plausible value, inclusive
    high: float  # the highest plausible value, inclusive
    title: str


class Conversion(NamedTuple):
    """value in the base unit of its dimension = value * scale + shift"""

    dimension: str
    scale: float
    shift: float


UNITS: dict[str, Conversion] = {
    "Cel": Conversion("temperature", 1.0, 0.0),
    "[degF]": Conversion("temperature", 5 / 9, -160 / 9),
    "K": Conversion("temperature", 1.0, -273.15),
    "%": Conversion("ratio", 1.0, 0.0),
    "1": Conversion("ratio", 100.0, 0.0),
    "[ppm]": Conversion("ratio", 1e-4, 0.0),
    "/min": Conversion("rate", 1.0, 0.0),
    "Hz": Conversion("rate", 60.0, 0.0),
    "mm[Hg]": Conversion("pressure", 1.0, 0.0),
    "kPa": Conversion("pressure", 7.500615758456564, 0.0),
    "Pa": Conversion("pressure", 0.007500615758456564, 0.0),
    "[g]": Conversion("acceleration", 1.0, 0.0),
    "m/s2": Conversion("acceleration", 1 / 9.80665, 0.0),
    "lx": Conversion("illuminance", 1.0, 0.0),
    "V": Conversion("voltage", 1.0, 0.0),
    "deg": Conversion("angle", 1.0, 0.0),
    "m/s": Conversion("speed", 1.0, 0.0),
    "km/h": Conversion("speed", 1 / 3.6, 0.0),
    "{state}": Conversion("state", 1.0, 0.0),
    "{score}": Conversion("score", 1.0, 0.0),
    "{count}": Conversion("count", 1.0, 0.0),
    "L/min": Conversion("flow", 1.0, 0.0),
    "kg": Conversion("mass", 1.0, 0.0),
    "cm": Conversion("length", 1.0, 0.0),
    "m": Conversion("length", 100.0, 0.0),
    "km": Conversion("length", 100_000.0, 0.0),
    "ms": Conversion("time", 0.001, 0.0),
    "s": Conversion("time", 1.0, 0.0),
    "min": Conversion("time", 60.0, 0.0),
    "h": Conversion("time", 3600.0, 0.0),
    "d": Conversion("time", 86_400.0, 0.0),
}

ALIASES: dict[str, str] = {
    "C": "Cel", "°C": "Cel", "degC": "Cel", "celsius": "Cel", "F": "[degF]", "°F": "[degF]", "degF": "[degF]", "fahrenheit": "[degF]",
    "%RH": "%", "%EL": "%", "/100": "%", "/": "1", "bpm": "/min", "beat/min": "/min", "beats/min": "/min", "1/min": "/min",
    "breaths/min": "/min", "mmHg": "mm[Hg]", "g": "[g]", "lux": "lx", "bool": "{state}", "ppm": "[ppm]", "l/min": "L/min",
}  # fmt: skip
"""Other spellings of units, SenML's (RFC 8428 section 12.1, RFC 8798) among them: its `/` is a ratio, its `/100` percent. SenML's own `%`
is a ratio too, which `decoders/senml.py` sees to; elsewhere `%` is percent."""

_METRICS = (
    Metric("temperature", "Cel", -100.0, 100.0, "Temperature"),
    Metric("humidity", "%", 0.0, 100.0, "Relative humidity"),
    Metric("door", "{state}", 0.0, 1.0, "Door open"),
    Metric("light", "lx", 0.0, 200_000.0, "Light"),
    Metric("shock", "[g]", 0.0, 500.0, "Shock"),
    Metric("tilt", "deg", 0.0, 180.0, "Tilt"),
    Metric("battery", "%", 0.0, 100.0, "Battery"),
    Metric("latitude", "deg", -90.0, 90.0, "Latitude"),
    Metric("longitude", "deg", -180.0, 180.0, "Longitude"),
    Metric("speed", "m/s", 0.0, 150.0, "Speed"),
    Metric("heart_rate", "/min", 0.0, 300.0, "Heart rate"),
    Metric("spo2", "%", 0.0, 100.0, "Oxygen saturation"),
    Metric("respiratory_rate", "/min", 0.0, 70.0, "Respiratory rate"),
    Metric("sbp", "mm[Hg]", 0.0, 400.0, "Systolic blood pressure"),
    Metric("dbp", "mm[Hg]", 0.0, 300.0, "Diastolic blood pressure"),
    Metric("map", "mm[Hg]", 0.0, 300.0, "Mean arterial pressure"),
    Metric("body_temperature", "Cel", 10.0, 50.0, "Body temperature"),
    Metric("etco2", "mm[Hg]", 0.0, 150.0, "End-tidal carbon dioxide"),
    Metric("oxygen", "{state}", 0.0, 1.0, "Supplemental oxygen"),
    Metric("consciousness", "{score}", 0.0, 4.0, "Consciousness: 0 alert, 1 confused, 2 voice, 3 pain, 4 unresponsive"),
)

CATALOGUE: dict[str, Metric] = {metric.name: metric for metric in _METRICS}


def unit_code(text: str) -> str | None:
    """Return the UCUM code that a spelling stands for, or None where it is unknown."""
    code = ALIASES.get(text, text)
    return code if code in UNITS else None


def conversion(source: str, target: str) -> tuple[float, float] | None:
    """Return (scale, shift) with value_in_target = value_in_source * scale + shift, or None where the dimensions differ.

    Both are UCUM codes of `UNITS`; raises KeyError where they are not.
    """
    origin, goal = UNITS[source], UNITS[target]
    if origin.dimension != goal.dimension:
        return None
    return origin.scale / goal.scale, (origin.shift - goal.shift) / goal.scale
