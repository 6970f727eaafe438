"""The air and the sun outside: by place, height and local time, in a warm European summer whatever the date, for then an open door matters.

Means are those of July in the routes' towns (Hamburg 18, Barcelona 25, Rome 26 degrees Celsius; Munich, 520 m up, 19), and two degrees more
for a warm spell; 6.5 K less a kilometre up is the standard atmosphere's.
"""

from typing import NamedTuple

import numpy as np

from simulators.world import DAY_S, Floats

WARMEST_S = 15 * 3600.0  # local time of the day's highest temperature
SWING_K, WEATHER_K, WEATHER_S = 4.0, 1.5, 4.3 * DAY_S
LAPSE_K_PER_M = 0.0065
DEW_BELOW_MEAN_K = 7.0
SUN_DECLINATION = np.radians(20.0)  # of late July


class Outside(NamedTuple):
    temperature: Floats  # degrees Celsius
    vapour: Floats  # hPa
    sun: Floats  # sine of the sun's elevation; 0 at night


def outside(latitude: Floats, longitude: Floats, height_m: Floats, seconds: float) -> Outside:
    """Return what it is like at some places at an instant."""
    local = (seconds + longitude * (DAY_S / 360)) * (2 * np.pi / DAY_S)  # as an angle
    weather = WEATHER_K * np.cos(seconds * (2 * np.pi / WEATHER_S) + latitude)
    mean = 21.0 + 0.75 * (52.5 - latitude) - LAPSE_K_PER_M * height_m + weather
    north = np.radians(latitude)
    sun = np.sin(north) * np.sin(SUN_DECLINATION) - np.cos(north) * np.cos(SUN_DECLINATION) * np.cos(local)
    temperature = mean + SWING_K * np.cos(local - WARMEST_S * (2 * np.pi / DAY_S))
    return Outside(temperature, saturated(mean - DEW_BELOW_MEAN_K), np.maximum(sun, 0.0))


def saturated(celsius: Floats) -> Floats:
    """Return the vapour pressure at which air is saturated, hPa (Magnus, with the coefficients of WMO-No. 8)."""
    pressure: Floats = 6.112 * np.exp(17.62 * celsius / (243.12 + celsius))
    return pressure
