"""Places: zones and routes that rules name, and how far a position is from them, in metres.

Distances from a centre are great-circle distances on a sphere of the Earth's mean radius (haversine formula; within 0.6 % of the
ellipsoid's). Distances from lines are taken on a plane around the position, with its own latitude's scale: exact enough for what is near,
and what is far is far. Longitudes go around: a route may cross the 180th meridian. A zone that holds a pole is not supported.
"""

from math import radians
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8  # IUGG mean radius R1
DEGREE_M = radians(1) * EARTH_RADIUS_M

LATITUDE, LONGITUDE = "latitude", "longitude"
"""The metrics that make a position."""

Point = tuple[float, float]
"""Latitude and longitude, degrees."""


class Place(NamedTuple):
    """A zone or a route: within `reach_m` of a point or of a line of points; or inside a ring of them."""

    points: tuple[Point, ...]
    reach_m: float = 0.0
    ring: bool = False

    def distances_m(self, latitudes: Floats, longitudes: Floats) -> Floats:
        """Return how far positions are from the place: shape (n,), 0 inside it, NaN where a position is."""
        if len(self.points) == 1:
            apart = _great_circle_m(latitudes, longitudes, *self.points[0])
        else:
            apart = self._from_line_m(latitudes, longitudes)
        distances: Floats = np.maximum(apart - self.reach_m, 0.0)
        return distances

    def _from_line_m(self, latitudes: Floats, longitudes: Floats) -> Floats:
        line = np.array([*self.points, self.points[0]] if self.ring else self.points)
        x = _around(line[:, 1] - longitudes[:, None]) * np.cos(np.radians(latitudes))[:, None] * DEGREE_M  # shape (positions, points)
        y = (line[:, 0] - latitudes[:, None]) * DEGREE_M
        dx, dy = np.diff(x), np.diff(y)
        length = dx**2 + dy**2
        along = np.divide(-(x[:, :-1] * dx + y[:, :-1] * dy), length, out=np.zeros_like(length), where=length > 0).clip(0, 1)
        nearest: Floats = np.hypot(x[:, :-1] + along * dx, y[:, :-1] + along * dy).min(axis=1)
        if not self.ring:
            return nearest
        crosses = (y[:, :-1] > 0) != (y[:, 1:] > 0)  # the parallel of the position; to its east, for an odd number of sides inside
        east = x[:, :-1] - np.divide(y[:, :-1] * dx, dy, out=np.zeros_like(dy), where=crosses) > 0
        inside = (crosses & east).sum(axis=1) % 2 == 1
        return np.where(inside & ~np.isnan(nearest), 0.0, nearest)


def _great_circle_m(latitudes: Floats, longitudes: Floats, latitude: float, longitude: float) -> Floats:
    one, two = np.radians(latitudes), np.radians(latitude)
    apart = np.sin((one - two) / 2) ** 2 + np.cos(one) * np.cos(two) * np.sin(np.radians(longitudes - longitude) / 2) ** 2
    found: Floats = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(apart.clip(0, 1)))
    return found


def _around(degrees: Floats) -> Floats:
    """Return differences of longitude as the shorter way around, in [-180, 180)."""
    shorter: Floats = (degrees + 180) % 360 - 180
    return shorter
