"""Places: zones and routes that rules name. How far a position is from them: `rules/geometry.py`."""

from typing import NamedTuple

LATITUDE, LONGITUDE = "latitude", "longitude"
"""The metrics that make a position."""

Point = tuple[float, float]
"""Latitude and longitude, degrees."""


class Place(NamedTuple):
    """A zone or a route: within `reach_m` of a point or of a line of points; or inside a ring of them."""

    points: tuple[Point, ...]
    reach_m: float = 0.0
    ring: bool = False
