"""Refrigerated cargo spaces: a heat balance, not noise. Heat comes in through walls, roof and an open door, is exchanged between air and
cargo, and is pumped out by a unit that a thermostat switches and that must thaw its coil. Moisture comes with the outside air and from the
goods, and leaves as frost. The law: what comes in less what is pumped out is what is stored, to the last joule.

Orders of magnitude are those of a body of 120 m2 with K 0.4 W/m2K (ATP: the most that reinforced insulation may have), a unit of 6 kW at 30
degrees outside, and an open door that exchanges 0.4 m3 of air a second.
"""

from typing import NamedTuple

import numpy as np

from simulators.climate import Outside, saturated
from simulators.world import Booleans, Floats

EMPTY = 0.1  # share of the cargo's heat that an empty vehicle keeps: pallets, and the buffer of a probe
ROOF_W_PER_K, SUN_K_STANDING, SUN_K_DRIVING = 15.0, 18.0, 7.0  # the sun warms a roof by so much, less in the wind
STRONGER_PER_K = 0.012  # a unit pumps so much more for each kelvin that it is colder outside
COIL_BELOW_AIR_K = 8.0
FROST_G, FROST_LATENT_J_PER_G = 2_000.0, 334.0  # when the coil is thawed
HEATER_W, HEATER_LEAK = 2_500.0, 0.15  # what thaws it, and the share of it that warms the air
VOLUME_M3 = 45.0
GRAMS = 0.78  # of water in a cubic metre and hPa, at 5 degrees Celsius
LEAK, DOORWAY, COIL, GOODS = 1 / 10_800, 1 / 120, 1 / 300, 1 / 2_400  # exchange of moisture: shares of the air a second
GOODS_HUMIDITY = 0.65


class Heat(NamedTuple):
    """What crossed the boundary of each space in a tick, J."""

    gained: Floats  # through walls, roof, door, and from the heater
    pumped: Floats  # by the unit


class ColdRooms:
    """`count` cargo spaces; `air` and `product` are degrees Celsius, `vapour` is hPa."""

    def __init__(self, count: int, random: np.random.Generator) -> None:
        draw = random.uniform
        self.wall = draw(45, 60, count)  # W/K
        self.exchange = draw(120, 180, count)  # W/K between air and a full load
        self.doorway = draw(430, 520, count)  # W/K while open
        self.cooling = draw(5500, 6500, count)  # W
        self.air_heat = draw(340e3, 430e3, count)  # J/K: air, lining, shelves
        self.full_heat = draw(5e6, 14e6, count)  # J/K: a full load
        self.setpoint = draw(4.7, 5.2, count)
        self.band = draw(0.6, 0.9, count)
        self.air = self.setpoint + draw(-0.5, 0.5, count)
        self.product = self.setpoint + draw(-0.3, 0.3, count)
        self.middle = self.air.copy()  # the air's mean over the last tick
        self.vapour = draw(0.55, 0.75, count) * saturated(self.air)
        self.frost = draw(0, FROST_G, count)  # g
        self.load = np.ones(count)
        self.running = random.random(count) < 0.2
        self.thawing = np.zeros(count, dtype=np.bool_)

    @property
    def humidity(self) -> Floats:
        """Relative humidity, %."""
        relative: Floats = 100.0 * self.vapour / saturated(self.air)
        return relative

    def stored(self) -> Floats:
        """Return the heat of air and cargo above 0 degrees Celsius, J."""
        heat: Floats = self.air_heat * self.air + self._product_heat() * self.product
        return heat

    def carry(self, load: Floats) -> None:
        """Change the load, 0 to 1. Goods leave as warm as they are; what is loaded is as cold as it should be."""
        before, after = self._share(self.load), self._share(load)
        added = np.maximum(after - before, 0.0)
        self.product += (self.setpoint - self.product) * (added / after)
        self.load = load

    def advance(self, seconds: float, outside: Outside, door: Booleans, power: Floats, standing: Booleans) -> Heat:
        """Pass time; return the heat that came and went. `power` is the share of its own that the unit has."""
        self._switch(door, power)
        inward = self.wall + door * self.doorway
        exchange = self.exchange * self._share(self.load)
        capacity = self.running * power * self.cooling * (1 + STRONGER_PER_K * (30.0 - outside.temperature))
        extra = ROOF_W_PER_K * outside.sun * np.where(standing, SUN_K_STANDING, SUN_K_DRIVING) + self.thawing * (HEATER_W * HEATER_LEAK)
        total = inward + exchange  # the air's balance is solved exactly over the tick, the cargo held
        goal = (inward * outside.temperature + exchange * self.product + extra - capacity) / total
        fading = np.exp(-total * seconds / self.air_heat)
        self.middle = goal + (self.air - goal) * (1 - fading) * (self.air_heat / (total * seconds))
        self.air = goal + (self.air - goal) * fading
        self.product += exchange * (self.middle - self.product) * (seconds / self._product_heat())
        self._dampen(seconds, outside, door)
        return Heat((inward * (outside.temperature - self.middle) + extra) * seconds, capacity * seconds)

    def _switch(self, door: Booleans, power: Floats) -> None:
        """The thermostat has a band; the door's switch stops the unit, and so does thawing its coil, which begins when it is cold."""
        warm, cold = self.air > self.setpoint + self.band, self.air < self.setpoint - self.band
        self.thawing = (self.thawing | ((self.frost >= FROST_G) & cold)) & (self.frost > 0) & (power > 0)
        self.running = (self.running | warm) & ~cold & ~door & ~self.thawing & (power > 0)

    def _dampen(self, seconds: float, outside: Outside, door: Booleans) -> None:
        """Mix with the outside air, take up what the goods give off, and freeze out what the coil takes."""
        coil, doorway = self.running * COIL, door * DOORWAY
        frozen, moist = saturated(self.middle - COIL_BELOW_AIR_K), GOODS_HUMIDITY * saturated(self.middle)
        total = LEAK + doorway + coil + GOODS
        goal = ((LEAK + doorway) * outside.vapour + coil * frozen + GOODS * moist) / total
        fading = np.exp(-total * seconds)
        mean = goal + (self.vapour - goal) * (1 - fading) / (total * seconds)
        self.vapour = np.minimum(goal + (self.vapour - goal) * fading, saturated(self.air))
        thawed = self.thawing * (HEATER_W * (1 - HEATER_LEAK) / FROST_LATENT_J_PER_G)
        self.frost = np.maximum(self.frost + (coil * (mean - frozen) * (GRAMS * VOLUME_M3) - thawed) * seconds, 0.0)

    def _product_heat(self) -> Floats:
        heat: Floats = self.full_heat * self._share(self.load)
        return heat

    @staticmethod
    def _share(load: Floats) -> Floats:
        share: Floats = EMPTY + (1 - EMPTY) * load
        return share
