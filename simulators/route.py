"""Where the vehicles are: rounds from a depot over stops to a consignee and back, on roads between real towns, up hill and down. The law: a
round is a function of time. Nobody's place depends on how often somebody asks; a vehicle that is held up does everything later.
"""

from bisect import insort
from typing import NamedTuple

import numpy as np

from simulators.world import Booleans, Floats, Integers

METRES_A_DEGREE = 111_320.0
START_UP_S = 120.0  # to cruising speed, and from it
DEPOT_S, STOP_S, CONSIGNEE_S = (2_700.0, 4_500.0), (900.0, 1_500.0), (1_800.0, 2_700.0)  # how long one stands there
FIX_M, FIX_SPEED = 4.0, 0.3  # errors of a position and of a speed, standard deviations


class Point(NamedTuple):
    latitude: float
    longitude: float
    height_m: float
    place: str = ""  # where a vehicle stops; other points are only passed


class Visit(NamedTuple):
    """A stay at a place; the first place of a round is the depot, the last the consignee."""

    place: Point
    arrived_ms: int
    departed_ms: int


ROUTES = (
    (
        Point(52.3702, 4.8952, 0, "Amsterdam"), Point(52.0907, 5.1214, 5, "Utrecht"), Point(51.6978, 5.3037, 6),
        Point(51.4416, 5.4697, 18, "Eindhoven"), Point(51.2517, 5.7069, 35), Point(50.9983, 5.8690, 50),
        Point(50.8514, 5.6910, 49, "Maastricht"),
    ),
    (
        Point(53.5511, 9.9937, 6, "Hamburg"), Point(52.9865, 9.8433, 64), Point(52.3759, 9.7320, 55, "Hanover"),
        Point(51.5413, 9.9158, 150), Point(51.3127, 9.4797, 167, "Kassel"), Point(50.5558, 9.6808, 261),
        Point(49.7913, 9.9534, 177, "Würzburg"), Point(49.4521, 11.0767, 309), Point(48.7665, 11.4258, 374),
        Point(48.1351, 11.5820, 520, "Munich"),
    ),
    (
        Point(41.3874, 2.1686, 12, "Barcelona"), Point(41.5790, 1.6170, 312), Point(41.6176, 0.6200, 155, "Lleida"),
        Point(41.5200, 0.3490, 118), Point(41.6488, -0.8891, 208, "Zaragoza"), Point(41.3535, -1.6432, 536),
        Point(41.1720, -2.4340, 1092), Point(40.6289, -3.1618, 685), Point(40.4168, -3.7038, 657, "Madrid"),
    ),
    (
        Point(45.4642, 9.1900, 120, "Milan"), Point(45.0526, 9.6930, 61), Point(44.8015, 10.3279, 57, "Parma"),
        Point(44.4949, 11.3426, 54, "Bologna"), Point(44.1380, 11.2390, 700), Point(43.7696, 11.2558, 50, "Florence"),
        Point(43.4633, 11.8797, 296), Point(42.7185, 12.1108, 325), Point(41.9028, 12.4964, 21, "Rome"),
    ),
)  # fmt: skip
"""From the depot to the consignee; heights in metres, as maps say them."""


class Routes:
    """The rounds of `count` vehicles. After `at`, the columns say where everybody is."""

    def __init__(self, count: int, random: np.random.Generator) -> None:
        self._route = random.integers(0, len(ROUTES), count)
        self._lines = [_measured(points) for points in ROUTES]
        self._held: list[list[tuple[float, float]]] = [[] for _ in range(count)]  # seconds: from, until
        self._whose_holds: Integers = np.zeros(0, dtype=np.int64)
        self._holds: Floats = np.zeros((0, 2))
        self._random = random
        self._on = [np.flatnonzero(self._route == number) for number in range(len(ROUTES))]
        self._drops = np.array([sum(bool(point.place) for point in points) - 1 for points in ROUTES])[self._route]
        self._times, self._ways = self._timetables(random.uniform(17.0, 24.0, count), random)
        self._cycle_s = self._times[:, -1]
        self._lead_s = random.uniform(0.0, 1.0, count) * self._cycle_s
        self._all = np.arange(count)
        self.latitude, self.longitude, self.height_m, self.speed = (np.zeros(count) for _ in range(4))
        self.load = np.zeros(
            count
        )  # 0 to 1: a part is delivered at each stop, the rest to the consignee, and all is loaded anew at the depot
        self.standing_s = np.zeros(count)  # since the arrival at a place; negative on the way
        self.at_depot = np.zeros(count, dtype=np.bool_)

    def hold(self, index: int, start_s: float, end_s: float) -> None:
        """Let vehicle `index` stand wherever it is from `start_s` until `end_s`. Raises ValueError where it already is held then."""
        if any(start_s < end and start < end_s for start, end in self._held[index]):
            msg = f"vehicle {index} is held at that time already"
            raise ValueError(msg)
        insort(self._held[index], (start_s, end_s))
        self._whose_holds = np.append(self._whose_holds, index)
        self._holds = np.vstack([self._holds, (start_s, end_s)])

    def at(self, seconds: float) -> Booleans:
        """Say where everybody is at an instant; return who is held."""
        clock, held = self._clock(seconds)
        leg = (self._times <= clock[:, np.newaxis]).sum(axis=1) - 1  # even: at a place; odd: on the way to the next one
        begun, way = self._times[self._all, leg], self._ways[self._all, leg]
        into, length_s = clock - begun, self._times[self._all, leg + 1] - begun
        metres = self._ways[self._all, leg + 1] - way
        cruise = metres / (length_s - START_UP_S * (metres > 0))
        left = np.minimum(into, length_s - into)  # to the nearer end of the leg
        slow = np.minimum(left / START_UP_S, 1.0)
        near = cruise * np.where(slow < 1.0, left * slow / 2, left - START_UP_S / 2)
        self._place(way + np.where(into <= length_s / 2, near, metres - near))
        self.speed = cruise * slow * ~held
        self.standing_s = np.where(leg % 2 == 0, into, -1.0)
        self.at_depot = leg == 0
        self.load = np.where(self.at_depot, 0.0, 1.0 - (leg - 1) // 2 / self._drops)
        return held

    def fixes(self, which: Integers) -> list[Floats]:
        """Return latitude, longitude (1e-5 degrees, about a metre) and speed of some vehicles, as a receiver finds them."""
        north, east, faster = self._random.normal(0.0, 1.0, (3, which.size))
        metre = FIX_M / METRES_A_DEGREE
        latitude = self.latitude[which] + north * metre
        longitude = self.longitude[which] + east * metre / np.cos(np.radians(latitude))
        speed = np.maximum(self.speed[which] + faster * FIX_SPEED, 0.0) * (self.speed[which] > 0)
        return [np.round(latitude, 5), np.round(longitude, 5), np.round(speed, 1)]

    def visits(self, index: int, start_s: float, end_s: float) -> list[Visit]:
        """Return the stays of a vehicle that touch `[start_s, end_s)`, in order."""
        places = [point for point in ROUTES[self._route[index]] if point.place]
        arrivals, departures = self._times[index, : 2 * len(places)].reshape(-1, 2).T
        cycle, lead = self._cycle_s[index], self._lead_s[index]
        stays = []
        begun = (start_s - sum(end - start for start, end in self._held[index]) + lead) // cycle * cycle - lead
        while begun < end_s:
            for place, arrival, departure in zip(places, arrivals, departures, strict=True):
                arrived, departed = (self._held_up(index, begun + clock) for clock in (arrival, departure))
                if arrived < end_s and departed > start_s:
                    stays.append(Visit(place, round(arrived * 1000), round(departed * 1000)))
            begun += cycle
        return stays

    def _timetables(self, cruise: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Return for each vehicle when it arrives and departs, seconds into its round, and the way in metres; short rounds end early."""
        most = max(sum(bool(point.place) for point in points) for points in ROUTES)
        stays = random.uniform(*STOP_S, (cruise.size, most))
        depot, consignee = random.uniform(*DEPOT_S, cruise.size), random.uniform(*CONSIGNEE_S, cruise.size)
        times, ways = np.empty((cruise.size, 2 * most + 2)), np.empty((cruise.size, 2 * most + 2))
        for number, (points, mine) in enumerate(zip(ROUTES, self._on, strict=True)):
            metres = self._lines[number][0]
            stops = metres[[bool(point.place) for point in points]]
            stays[mine, 0], stays[mine, len(stops) - 1] = depot[mine], consignee[mine]
            legs = np.diff(np.append(stops, 2 * stops[-1]))
            length_s = np.empty((mine.size, 2 * len(stops)))
            length_s[:, ::2] = stays[mine, : len(stops)]
            length_s[:, 1::2] = legs / cruise[mine, np.newaxis] + START_UP_S
            knots = np.cumsum(length_s, axis=1)
            times[mine, 0], ways[mine, 0] = 0.0, 0.0
            times[mine, 1 : knots.shape[1] + 1], times[mine, knots.shape[1] + 1 :] = knots, knots[:, -1:]
            ways[mine, 1 : 2 * len(stops) : 2], ways[mine, 2 : 2 * len(stops) : 2] = stops, stops[1:]
            ways[mine, 2 * len(stops) :] = 2 * stops[-1]
        return times, ways

    def _clock(self, seconds: float) -> tuple[Floats, Booleans]:
        """Return how far into its round everybody is, and who is held."""
        begins, ends = self._holds.T
        stood, held = np.zeros(self._all.size), np.zeros(self._all.size, dtype=np.bool_)
        np.add.at(stood, self._whose_holds, np.clip(seconds, begins, ends) - begins)
        held[self._whose_holds[(begins <= seconds) & (seconds < ends)]] = True
        return (seconds - stood + self._lead_s) % self._cycle_s, held

    def _held_up(self, index: int, seconds: float) -> float:
        """Return when a vehicle really does what it would do at an instant if nobody ever held it."""
        for start, end in self._held[index]:
            if start < seconds:
                seconds += end - start
        return seconds

    def _place(self, way: Floats) -> None:
        for mine, (metres, *columns) in zip(self._on, self._lines, strict=True):
            out = np.minimum(way[mine], 2 * metres[-1] - way[mine])
            for place, column in zip((self.latitude, self.longitude, self.height_m), columns, strict=True):
                place[mine] = np.interp(out, metres, column)


def _measured(points: tuple[Point, ...]) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the way in metres, the latitude, the longitude and the height at each point of a route."""
    latitudes, longitudes, heights = (np.array(column) for column in list(zip(*points, strict=True))[:3])
    east = np.diff(longitudes) * np.cos(np.radians((latitudes[1:] + latitudes[:-1]) / 2))
    legs = np.hypot(np.diff(latitudes), east) * METRES_A_DEGREE
    return np.concatenate([[0.0], np.cumsum(legs)]), latitudes, longitudes, heights
