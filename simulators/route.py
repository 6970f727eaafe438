"""Where the vehicles are: simple routes between real towns, driven there and back, with stops. Schedules are functions of time, so that a
vehicle's stop does not depend on how often somebody asks; only the way covered is state.
"""

import numpy as np

from simulators.world import Booleans, Floats, Integers

ROUTES = (
    ((52.3702, 4.8952), (52.0907, 5.1214), (51.4416, 5.4697), (50.8514, 5.6910)),  # Amsterdam, Utrecht, Eindhoven, Maastricht
    ((53.5511, 9.9937), (52.3759, 9.7320), (50.1109, 8.6821), (48.1351, 11.5820)),  # Hamburg, Hanover, Frankfurt, Munich
    ((41.3874, 2.1686), (41.6488, -0.8891), (40.4168, -3.7038)),  # Barcelona, Zaragoza, Madrid
    ((45.4642, 9.1900), (44.4949, 11.3426), (43.7696, 11.2558), (41.9028, 12.4964)),  # Milan, Bologna, Florence, Rome
)
METRES_A_DEGREE = 111_320.0
START_UP_S = 120.0  # to cruising speed, and from it


class Routes:
    """The ways of `count` vehicles: driving for one to two hours, then a stop of 15 to 25 minutes."""

    def __init__(self, count: int, random: np.random.Generator) -> None:
        self._route = random.integers(0, len(ROUTES), count)
        self._lines = [_measured(points) for points in ROUTES]
        lengths = np.array([line[0][-1] for line in self._lines])
        self._length = lengths[self._route]
        self._way = random.uniform(0.0, 2.0, count) * self._length  # metres; past the end it leads back
        self._cruise = random.uniform(17.0, 24.0, count)  # m/s
        self._drive_s = random.uniform(3600, 7200, count)
        self._cycle_s = self._drive_s + random.uniform(900, 1500, count)
        self._lead_s = random.uniform(0.0, 1.0, count) * self._cycle_s
        self._speed = np.zeros(count)
        self._random = random
        self.home_longitude = np.array([ROUTES[route][0][1] for route in self._route])

    def advance(self, seconds: float, tick_s: float, standing: Booleans) -> Booleans:
        """Drive on for one tick, but for those who stand; return who moves."""
        into = (seconds + self._lead_s) % self._cycle_s
        ramp = np.maximum(np.minimum(np.minimum(into, self._drive_s - into) / START_UP_S, 1.0), 0.0)
        traffic = np.maximum(self._random.normal(1.0, 0.06, into.size), 0.7)
        self._speed = self._cruise * ramp * traffic * ~standing
        self._way = (self._way + self._speed * tick_s) % (2 * self._length)
        return self._speed > 0.0

    def seconds_into_stop(self, seconds: float) -> Floats:
        """Return for each vehicle how long it has been standing at its stop; negative while it drives."""
        into: Floats = (seconds + self._lead_s) % self._cycle_s - self._drive_s
        return into

    def columns(self, which: Integers) -> list[Floats]:
        """Return latitude, longitude (1e-5 degrees, about a metre) and speed of some vehicles."""
        latitude, longitude = np.empty(which.size), np.empty(which.size)
        out = np.minimum(self._way[which], 2 * self._length[which] - self._way[which])
        for number, (metres, latitudes, longitudes) in enumerate(self._lines):
            on_it = self._route[which] == number
            latitude[on_it] = np.interp(out[on_it], metres, latitudes)
            longitude[on_it] = np.interp(out[on_it], metres, longitudes)
        return [np.round(latitude, 5), np.round(longitude, 5), np.round(self._speed[which], 1)]


def _measured(points: tuple[tuple[float, float], ...]) -> tuple[Floats, Floats, Floats]:
    """Return the way in metres, the latitude and the longitude at each point of a route."""
    latitudes, longitudes = (np.array(column) for column in zip(*points, strict=True))
    east = np.diff(longitudes) * np.cos(np.radians((latitudes[1:] + latitudes[:-1]) / 2))
    legs = np.hypot(np.diff(latitudes), east) * METRES_A_DEGREE
    return np.concatenate([[0.0], np.cumsum(legs)]), latitudes, longitudes
