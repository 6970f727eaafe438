"""The patients' signs belong together, and an episode is one that a clinician would recognise."""

import numpy as np
import pytest

from simulators.patient import CUFF, TEMPERATURE, VITALS, Patients

START = 1_763_700_000_000
SECOND, MINUTE = 1_000, 60_000


def series(reports, metrics, device=None):
    chosen = [report for report in reports if report.metrics == metrics]
    times = np.concatenate([report.times_ms for report in chosen])
    devices = np.concatenate([report.devices for report in chosen])
    values = np.concatenate([report.values for report in chosen])
    mine = slice(None) if device is None else devices == device
    return times[mine], dict(zip(metrics, values[mine].T, strict=True))


def test_without_an_episode_nobody_desaturates():
    """An hour of a large ward: no reading below 90 % that the script did not ask for."""
    _, vitals = series(Patients(100, seed=6, start_ms=START).step(START + 60 * MINUTE), VITALS)
    assert vitals["spo2"].min() >= 92
    assert 45 < vitals["heart_rate"].min() < vitals["heart_rate"].max() < 115
    assert 6 < vitals["respiratory_rate"].min() < vitals["respiratory_rate"].max() < 25


def test_a_desaturation_falls_drives_heart_and_breath_and_recovers():
    world = Patients(3, seed=1, start_ms=START)
    world.desaturate(1, START + 5 * MINUTE, START + 8 * MINUTE, nadir=80.0, lag_s=30.0)
    reports = world.step(START + 15 * MINUTE)
    times, mine = series(reports, VITALS, 1)
    before, bottom, after = (
        times < START + 5 * MINUTE,
        (times >= START + 7 * MINUTE) & (times < START + 8 * MINUTE),
        times > START + 12 * MINUTE,
    )
    assert mine["spo2"][before].min() >= 92
    assert 78 <= mine["spo2"][bottom].min() <= mine["spo2"][bottom].max() <= 84
    assert mine["spo2"][after].min() >= 92
    assert mine["heart_rate"][bottom].mean() > mine["heart_rate"][before].mean() + 12
    assert mine["respiratory_rate"][bottom].mean() > mine["respiratory_rate"][before].mean() + 4
    assert mine["heart_rate"][after].mean() < mine["heart_rate"][before].mean() + 8
    fall = mine["spo2"][(times >= START + 5 * MINUTE) & (times < START + 6 * MINUTE)]
    assert np.diff(fall).min() >= -3  # no saturation falls off a cliff
    _, others = series(reports, VITALS, 0)
    assert others["spo2"].min() >= 92


def test_the_cuff_measures_at_its_interval_and_its_mean_belongs_to_it():
    times, cuff = series(Patients(40, seed=2, start_ms=START, cuff_ms=5 * MINUTE).step(START + 60 * MINUTE - 1), CUFF)
    assert times.size == 40 * 12
    assert (cuff["dbp"] < cuff["map"]).all()
    assert (cuff["map"] < cuff["sbp"]).all()
    assert np.abs(cuff["map"] - (cuff["dbp"] + (cuff["sbp"] - cuff["dbp"]) / 3)).max() <= 1.0


def test_body_temperature_comes_every_minute():
    times, columns = series(Patients(10, seed=2, start_ms=START).step(START + 60 * MINUTE - 1), TEMPERATURE)
    assert times.size == 10 * 60
    assert 35.8 < columns["body_temperature"].min() < columns["body_temperature"].max() < 38.0


def test_a_probe_that_is_off_measures_nothing_while_the_others_go_on():
    world = Patients(2, seed=3, start_ms=START)
    world.silence(0, "spo2", START + 30 * SECOND, START + 50 * SECOND)
    reports = world.step(START + 2 * MINUTE)
    times, mine = series(reports, VITALS, 0)
    off = (times >= START + 30 * SECOND) & (times < START + 50 * SECOND)
    assert off.sum() == 20
    assert np.array_equal(np.isnan(mine["spo2"]), off)
    assert np.isfinite(mine["heart_rate"]).all()
    assert np.isfinite(series(reports, VITALS, 1)[1]["spo2"]).all()


def test_a_metric_that_no_monitor_has_cannot_fall_silent():
    with pytest.raises(ValueError, match="'temperature'"):
        Patients(1, seed=1, start_ms=0).silence(0, "temperature", 0, 1)
