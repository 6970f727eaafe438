"""Refrigerated vehicles: a heat balance, not noise. The cargo space takes heat through its walls, from the cargo and through an open door,
and loses it to a compressor that a thermostat switches; a sensor in the air, and one in the product where asked for, follow with a lag.

Orders of magnitude are those of a refrigerated truck: walls of about 50 W/K, a unit of about 6 kW, an open door of several hundred W/K.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simulators.route import Routes
from simulators.world import DAY_S, Booleans, Device, Floats, Integers, Reports, TickedWorld, fleet, follow, named

KIND = "shipment"
METRICS = ("temperature", "humidity", "door", "light", "shock", "battery")
POSITION = ("latitude", "longitude", "speed")
PRODUCT = ("temperature",)
POSITION_EVERY = 5  # reports: position is sent less often, to spare the modem

WARMEST_S = 15 * 3600.0  # local time of the day's highest temperature
SENSOR_LAG_S = 75.0
PRODUCT_PROBE_LAG_S = 240.0
HUMIDITY_LAG_S = 400.0
DELIVERY_DOOR_S = (180.0, 480.0)  # seconds into a stop at which the door is opened for a pallet
DELIVERY_OPEN_S = 30.0
IDLING = 0.1  # share of its power that is left to a compressor whose engine idles


class _Span(NamedTuple):
    """Something that goes on for a while in one vehicle: event times, the end not included."""

    vehicle: int
    start_ms: int
    end_ms: int


class _Blow(NamedTuple):
    vehicle: int
    time_ms: int
    g: float


class Shipments(TickedWorld):
    """`count` vehicles. Subjects are the vehicles; with `product_probes` each has a second device `<name>.product` for the same subject."""

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        start_ms: int,
        tick_ms: int = 30_000,
        report_ms: int = 60_000,
        prefix: str = "truck",
        tags: Sequence[Mapping[str, str]] | None = None,
        product_probes: bool = False,
    ) -> None:
        names = named(prefix, count)
        devices = fleet(KIND, names, names, tags)
        if product_probes:
            devices += [Device(f"{item.device}.product", item.subject, KIND, dict(item.tags)) for item in devices]
        super().__init__(devices, seed=seed, start_ms=start_ms, tick_ms=tick_ms, report_ms=report_ms)
        self._count = count
        self._tick_s = tick_ms / 1000
        self._openings: list[_Span] = []
        self._failures: list[_Span] = []
        self._dwells: list[_Span] = []
        self._blows: list[_Blow] = []
        self._draw_vehicles(count)

    def open_door(self, index: int, start_ms: int, end_ms: int) -> None:
        """Leave the door of vehicle `index` open from `start_ms` until `end_ms`."""
        self._openings.append(_Span(index, start_ms, end_ms))

    def fail_compressor(self, index: int, start_ms: int, end_ms: int) -> None:
        """Let the compressor of vehicle `index` not run from `start_ms` until `end_ms`."""
        self._failures.append(_Span(index, start_ms, end_ms))

    def dwell(self, index: int, start_ms: int, end_ms: int) -> None:
        """Let vehicle `index` stand from `start_ms` until `end_ms`, its engine idling: little is left to cool with."""
        self._dwells.append(_Span(index, start_ms, end_ms))

    def shock(self, index: int, time_ms: int, g: float) -> None:
        """Let vehicle `index` take a blow of `g` times the acceleration of gravity at `time_ms`."""
        self._blows.append(_Blow(index, time_ms, g))

    def _draw_vehicles(self, count: int) -> None:
        draw = self._random.uniform
        self._routes = Routes(count, self._random)
        self._outside_mean = draw(21, 25, count)
        self._outside_swing = draw(3, 5, count)
        self._wall = draw(45, 60, count)  # W/K
        self._cargo = draw(120, 180, count)  # W/K between cargo and air
        self._doorway = draw(430, 520, count)  # W/K while open
        self._cooling = draw(5500, 6500, count)  # W
        self._air_heat = draw(340e3, 430e3, count)  # J/K: air, lining, shelves
        self._product_heat = draw(5e6, 14e6, count)  # J/K
        self._setpoint = draw(4.7, 5.2, count)
        self._band = draw(0.6, 0.9, count)
        self._air = self._setpoint + draw(-0.5, 0.5, count)
        self._product = self._setpoint + draw(-0.3, 0.3, count)
        self._sensor, self._product_sensor = self._air.copy(), self._product.copy()
        self._running = self._random.random(count) < 0.4
        self._humidity = draw(50, 62, count)
        self._battery = draw(70, 100, count)  # %
        self._drain = draw(0.5, 1.2, count) / DAY_S  # % a second
        self._jolt = np.zeros(count)  # g: the strongest since the last report

    def _tick(self, time_ms: int) -> list[Reports]:
        seconds = time_ms / 1000
        door = self._doors(time_ms, seconds)
        standing = self._during(self._dwells, time_ms)
        moving = self._routes.advance(seconds, self._tick_s, standing)
        self._shake(moving & ~door, time_ms)
        reports = self._measure(time_ms, seconds, door)
        power = np.where(self._during(self._failures, time_ms), 0.0, np.where(standing, IDLING, 1.0))
        self._exchange_heat(self._outside(seconds), door, power)
        self._battery = np.maximum(self._battery - self._drain * self._tick_s, 0.0)
        return reports

    def _doors(self, time_ms: int, seconds: float) -> Booleans:
        into_stop = self._routes.seconds_into_stop(seconds)
        door = np.zeros(self._count, dtype=np.bool_)
        for begin in DELIVERY_DOOR_S:
            door |= (into_stop >= begin) & (into_stop < begin + DELIVERY_OPEN_S)
        return door | self._during(self._openings, time_ms)

    def _during(self, spans: Sequence[_Span], time_ms: int) -> Booleans:
        during = np.zeros(self._count, dtype=np.bool_)
        during[[span.vehicle for span in spans if span.start_ms <= time_ms < span.end_ms]] = True
        return during

    def _outside(self, seconds: float) -> Floats:
        local = seconds + self._routes.home_longitude * (DAY_S / 360)
        return self._outside_mean + self._outside_swing * np.cos((local - WARMEST_S) * (2 * np.pi / DAY_S))

    def _exchange_heat(self, outside: Floats, door: Booleans, power: Floats) -> None:
        """Solve the air's balance exactly over the tick, its neighbours held; then let the slower bodies follow it."""
        warm, cold = self._air > self._setpoint + self._band, self._air < self._setpoint - self._band
        self._running = (self._running | warm) & ~cold & ~door  # the door's switch stops the unit
        inward = self._wall + door * self._doorway
        total = inward + self._cargo
        goal = (inward * outside + self._cargo * self._product - self._running * power * self._cooling) / total
        before = self._air
        self._air = goal + (before - goal) * np.exp(-total * self._tick_s / self._air_heat)
        middle = (before + self._air) / 2
        self._product += self._cargo * (middle - self._product) * (self._tick_s / self._product_heat)
        self._sensor = follow(self._sensor, middle, self._tick_s, SENSOR_LAG_S)
        self._product_sensor = follow(self._product_sensor, self._product, self._tick_s, PRODUCT_PROBE_LAG_S)
        humidity = np.where(door, 68.0, np.where(self._running, 48.0, 60.0))  # a cold coil dries the air
        self._humidity = follow(self._humidity, humidity, self._tick_s, HUMIDITY_LAG_S)

    def _shake(self, moving: Booleans, time_ms: int) -> None:
        """Road noise, and a kerb or a pothole about twice an hour of driving."""
        road = np.abs(self._random.normal(0.0, 0.15, self._count))
        kerb = self._random.random(self._count) < self._tick_s * (2 / 3600)
        jolt = moving * (road + kerb * (1.5 + self._random.exponential(1.2, self._count)))
        self._jolt = np.maximum(self._jolt, np.minimum(jolt, 30.0))
        for blow in self._blows:
            if time_ms - self.tick_ms < blow.time_ms <= time_ms:
                self._jolt[blow.vehicle] = max(self._jolt[blow.vehicle], blow.g)

    def _measure(self, time_ms: int, seconds: float, door: Booleans) -> list[Reports]:
        due = self._due()
        vehicles = due[due < self._count]
        reports = []
        if vehicles.size:
            reports.append(self._reports(METRICS, vehicles, time_ms, self._columns(vehicles, seconds, door)))
            self._jolt[vehicles] = 0.0
        probes = due[due >= self._count]
        if probes.size:
            values = self._product_sensor[probes - self._count] + self._random.normal(0.0, 0.03, probes.size)
            reports.append(self._reports(PRODUCT, probes, time_ms, [np.round(values, 2)]))
        located = self._due(POSITION_EVERY)
        located = located[located < self._count]
        if located.size:
            reports.append(self._reports(POSITION, located, time_ms, self._routes.columns(located)))
        return reports

    def _columns(self, due: Integers, seconds: float, door: Booleans) -> list[Floats]:
        noise = self._random.normal(0.0, 1.0, (3, due.size))
        daylight = np.maximum(np.cos((seconds + self._routes.home_longitude[due] * (DAY_S / 360) - DAY_S / 2) * (2 * np.pi / DAY_S)), 0.0)
        lit = np.where(door[due], 120.0 + 2500.0 * daylight, 0.3) * np.exp(0.1 * noise[2])
        return [
            np.round(self._sensor[due] + 0.05 * noise[0], 2),
            np.round(np.clip(self._humidity[due] + 0.8 * noise[1], 0.0, 100.0), 1),
            door[due].astype(np.float64),
            np.round(lit, 1),
            np.round(self._jolt[due], 2),
            np.round(self._battery[due], 1),
        ]
