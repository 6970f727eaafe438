"""How far positions are from a place, in metres.

Distances from a centre are great-circle distances on a sphere of the Earth's mean radius (haversine formula; within 0.6 % of the
ellipsoid's). Distances from lines are taken on a plane around the position, with its own latitude's scale: exact enough for what is near,
and what is far is far. Longitudes go around: a route may cross the 180th meridian. A zone that holds a pole is not supported.
"""

from math import radians

import numpy as np

from rules.columns import Floats
from rules.places import Place

EARTH_RADIUS_M = 6_371_008.8  # IUGG mean radius R1
DEGREE_M = radians(1) * EARTH_RADIUS_M


def distances_m(place: Place, latitudes: Floats, longitudes: Floats) -> Floats:
    """Return how far positions are from the place: shape (n,), 0 inside it, NaN where a position is."""
    if len(place.points) == 1:
        apart = _great_circle_m(latitudes, longitudes, *place.points[0])
    else:
        apart = _from_line_m(place, latitudes, longitudes)
    distances: Floats = np.maximum(apart - place.reach_m, 0.0)
    return distances


def _from_line_m(place: Place, latitudes: Floats, longitudes: Floats) -> Floats:
    line = np.array([*place.points, place.points[0]] if place.ring else place.points)
    x = _around(line[:, 1] - longitudes[:, None]) * np.cos(np.radians(latitudes))[:, None] * DEGREE_M  # shape (positions, points)
    y = (line[:, 0] - latitudes[:, None]) * DEGREE_M
    dx, dy = np.diff(x), np.diff(y)
    length = dx**2 + dy**2
    along = np.divide(-(x[:, :-1] * dx + y[:, :-1] * dy), length, out=np.zeros_like(length), where=length > 0).clip(0, 1)
    nearest: Floats = np.hypot(x[:, :-1] + along * dx, y[:, :-1] + along * dy).min(axis=1)
    if not place.ring:
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
