"""Refrigerated vehicles and their sensors: cargo spaces (simulators/cold.py) that are driven round (simulators/route.py) under a changing
sky (simulators/climate.py). A sensor in the air, and one in the product where asked for, follow with a lag; it is dark until a door is
opened, and it shakes on the road and at kerbs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simulators.climate import Outside, outside
from simulators.cold import ColdRooms
from simulators.route import Routes, Visit
from simulators.world import DAY_S, Booleans, Device, Floats, Integers, Reports, TickedWorld, fleet, follow, named

KIND = "shipment"
METRICS = ("temperature", "humidity", "door", "light", "shock", "battery")
POSITION = ("latitude", "longitude", "speed")
PRODUCT = ("temperature",)
POSITION_EVERY = 5  # reports: position is sent less often, to spare the modem

SENSOR_LAG_S = 75.0
PRODUCT_PROBE_LAG_S = 240.0
DELIVERY_DOOR_S = (180.0, 480.0)  # seconds into a stop at which the door is opened for a pallet
DELIVERY_OPEN_S = 30.0
IDLING = 0.1  # share of its power that is left to a unit whose engine idles
DOCK_LX, DAYLIGHT_LX, DARK_LX = 120.0, 2_500.0, 0.3  # behind an open door by night, by day, and behind a closed one
POTHOLES, KERBS = 2 / 3600, 30 / 3600  # a second on the road; a second of manoeuvring
MANOEUVRING = 8.0  # m/s: slower than this
CHARGING = 15.0 / 3600  # % a second at the depot


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
        self._blows: list[_Blow] = []
        self._draw_vehicles(count)

    def open_door(self, index: int, start_ms: int, end_ms: int) -> None:
        """Leave the door of vehicle `index` open from `start_ms` until `end_ms`."""
        self._openings.append(_Span(index, start_ms, end_ms))

    def fail_compressor(self, index: int, start_ms: int, end_ms: int) -> None:
        """Let the compressor of vehicle `index` not run from `start_ms` until `end_ms`."""
        self._failures.append(_Span(index, start_ms, end_ms))

    def dwell(self, index: int, start_ms: int, end_ms: int) -> None:
        """Let vehicle `index` stand from `start_ms` until `end_ms`, its engine idling: there is little to cool with, and sun on the roof.

        Raises ValueError where it dwells at that time already.
        """
        self._routes.hold(index, start_ms / 1000, end_ms / 1000)

    def shock(self, index: int, time_ms: int, g: float) -> None:
        """Let vehicle `index` take a blow of `g` times the acceleration of gravity at `time_ms`."""
        self._blows.append(_Blow(index, time_ms, g))

    def visits(self, index: int, start_ms: int, end_ms: int) -> list[Visit]:
        """Return where vehicle `index` stays between two instants, when it arrives and departs: depot, stops, consignee, and again."""
        return self._routes.visits(index, start_ms / 1000, end_ms / 1000)

    def _draw_vehicles(self, count: int) -> None:
        self._routes = Routes(count, self._random)
        self._rooms = ColdRooms(count, self._random)
        self._sensor, self._product_sensor = self._rooms.air.copy(), self._rooms.product.copy()
        self._battery = self._random.uniform(70, 100, count)  # %
        self._drain = self._random.uniform(0.5, 1.2, count) / DAY_S  # % a second
        self._jolt = np.zeros(count)  # g: the strongest since the last report

    def _tick(self, time_ms: int) -> list[Reports]:
        seconds, routes = time_ms / 1000, self._routes
        held = routes.at(seconds)
        sky = outside(routes.latitude, routes.longitude, routes.height_m, seconds)
        door = self._doors(time_ms, held)
        self._shake(time_ms, door)
        reports = self._measure(time_ms, sky, door)
        self._rooms.carry(routes.load)
        power = np.where(self._during(self._failures, time_ms), 0.0, np.where(held, IDLING, 1.0))
        self._rooms.advance(self._tick_s, sky, door, power, routes.speed == 0)
        self._sensor = follow(self._sensor, self._rooms.middle, self._tick_s, SENSOR_LAG_S)
        self._product_sensor = follow(self._product_sensor, self._rooms.product, self._tick_s, PRODUCT_PROBE_LAG_S)
        change = np.where(routes.at_depot, CHARGING, -self._drain) * self._tick_s
        self._battery = np.clip(self._battery + change, 0.0, 100.0)
        return reports

    def _doors(self, time_ms: int, held: Booleans) -> Booleans:
        door = np.zeros(self._count, dtype=np.bool_)
        for begin in DELIVERY_DOOR_S:
            door |= (self._routes.standing_s >= begin) & (self._routes.standing_s < begin + DELIVERY_OPEN_S)
        return (door & ~held) | self._during(self._openings, time_ms)

    def _during(self, spans: Sequence[_Span], time_ms: int) -> Booleans:
        during = np.zeros(self._count, dtype=np.bool_)
        during[[span.vehicle for span in spans if span.start_ms <= time_ms < span.end_ms]] = True
        return during

    def _shake(self, time_ms: int, door: Booleans) -> None:
        """Road noise, a pothole now and then, kerbs where a vehicle manoeuvres; and the blows that are in the script."""
        speed = self._routes.speed * ~door
        road = np.abs(self._random.normal(0.0, 0.15, self._count))
        often = np.where(speed < MANOEUVRING, KERBS, POTHOLES)
        hard = self._random.random(self._count) < often * self._tick_s
        jolt = (speed > 0) * (road + hard * (1.5 + self._random.exponential(1.2, self._count)))
        self._jolt = np.maximum(self._jolt, np.minimum(jolt, 30.0))
        struck = [blow for blow in self._blows if blow.time_ms <= time_ms + self._delay_ms[blow.vehicle]]
        for blow in struck:
            self._jolt[blow.vehicle] = max(self._jolt[blow.vehicle], blow.g)
            self._blows.remove(blow)

    def _measure(self, time_ms: int, sky: Outside, door: Booleans) -> list[Reports]:
        due = self._due()
        vehicles = due[due < self._count]
        reports = []
        if vehicles.size:
            reports.append(self._reports(METRICS, vehicles, time_ms, self._columns(vehicles, sky, door)))
            self._jolt[vehicles] = 0.0
        probes = due[due >= self._count]
        if probes.size:
            values = self._product_sensor[probes - self._count] + self._random.normal(0.0, 0.03, probes.size)
            reports.append(self._reports(PRODUCT, probes, time_ms, [np.round(values, 2)]))
        located = self._due(POSITION_EVERY)
        located = located[located < self._count]
        if located.size:
            reports.append(self._reports(POSITION, located, time_ms, self._routes.fixes(located)))
        return reports

    def _columns(self, due: Integers, sky: Outside, door: Booleans) -> list[Floats]:
        noise = self._random.normal(0.0, 1.0, (3, due.size))
        lit = np.where(door[due], DOCK_LX + DAYLIGHT_LX * sky.sun[due], DARK_LX) * np.exp(0.1 * noise[2])
        return [
            np.round(self._sensor[due] + 0.05 * noise[0], 2),
            np.round(np.clip(self._rooms.humidity[due] + 0.8 * noise[1], 0.0, 100.0), 1),
            door[due].astype(np.float64),
            np.round(lit, 1),
            np.round(self._jolt[due], 2),
            np.round(self._battery[due], 1),
        ]
