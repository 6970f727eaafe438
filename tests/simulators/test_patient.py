"""The patients' signs belong together, and an episode is one that a clinician would recognise."""

import numpy as np
import pytest

from rules.scores import scores
from simulators.patient import CUFF, TEMPERATURE, VITALS, ArtefactKind, EpisodeKind, Patients

pytestmark = pytest.mark.long

START = 1_763_700_000_000
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
COUNT = 30


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


def ward(kind, hours, *, depth=1.0, recovery_hours=0, seed=3):
    """Return the reports of a ward on which something acts on everybody from the first hour on, for so many hours."""
    world = Patients(COUNT, seed=seed, start_ms=START, tick_ms=10 * SECOND, report_ms=10 * SECOND, cuff_ms=5 * MINUTE)
    for patient in range(COUNT):
        world.episode(patient, kind, START + HOUR, START + (1 + hours) * HOUR, depth=depth)
    return world.step(START + (1 + hours + recovery_hours) * HOUR)


def at(reports, metric, hour, minutes=20):
    """Return what each patient's metric is on average in the minutes before an hour."""
    until = START + round(hour * HOUR)
    total, count = np.zeros(COUNT), np.zeros(COUNT)
    for report in reports:
        if metric in report.metrics and until - minutes * MINUTE <= report.times_ms[0] < until:
            np.add.at(total, report.devices, report.values[:, report.metrics.index(metric)])
            np.add.at(count, report.devices, 1)
    return total / count


def test_blood_loss_raises_the_shock_index_by_both_its_parts_and_narrows_the_pulse():
    """The heart quickens before the pressure falls: that is what the index is for."""
    reports = ward(EpisodeKind.HAEMORRHAGE, 2, recovery_hours=6)
    index = [at(reports, "heart_rate", hour) / at(reports, "sbp", hour) for hour in (1, 3)]
    assert index[0].max() < 0.95
    assert index[1].min() > 1.2
    assert (at(reports, "heart_rate", 3) > at(reports, "heart_rate", 1) + 30).all()
    assert (at(reports, "sbp", 3) < 92).all()
    pulse = [at(reports, "sbp", hour) - at(reports, "dbp", hour) for hour in (1, 3)]
    assert (pulse[1] < 0.6 * pulse[0]).all()
    assert (at(reports, "respiratory_rate", 3) > at(reports, "respiratory_rate", 1) + 10).all()
    assert np.abs(at(reports, "spo2", 3) - at(reports, "spo2", 1)).max() < 1
    assert np.abs(at(reports, "heart_rate", 9) - at(reports, "heart_rate", 1)).max() < 12


def test_a_small_loss_of_blood_is_compensated():
    """Of 15 % (ATLS class I) the heart tells, the pressure hardly."""
    reports = ward(EpisodeKind.HAEMORRHAGE, 1, depth=0.15 / 0.35)
    assert (at(reports, "heart_rate", 2) > at(reports, "heart_rate", 1) + 10).all()
    assert (at(reports, "map", 2) > 0.85 * at(reports, "map", 1)).all()


def test_sepsis_comes_over_hours_with_fever_a_fast_heart_fast_breath_and_a_falling_pressure():
    reports = ward(EpisodeKind.SEPSIS, 8)
    for metric, change in (("body_temperature", 1.5), ("heart_rate", 35), ("respiratory_rate", 10), ("sbp", -15), ("map", -6)):
        hours = np.array([at(reports, metric, hour).mean() for hour in (1, 2, 4, 9)])
        assert (np.diff(hours) * change > 0).all(), f"{metric} does not go one way: {hours}"
        assert ((at(reports, metric, 9) - at(reports, metric, 1)) * np.sign(change) > abs(change)).all(), metric
    assert (at(reports, "heart_rate", 1.5) < at(reports, "heart_rate", 9) - 20).all()


def test_a_heart_block_slows_the_heart_and_widens_the_pulse():
    """A heart that has long to fill ejects more at each beat."""
    reports = ward(EpisodeKind.BRADYCARDIA, 1, recovery_hours=1)
    assert at(reports, "heart_rate", 2).max() < 40
    assert (at(reports, "map", 2) < at(reports, "map", 1)).all()
    assert (at(reports, "sbp", 2) - at(reports, "dbp", 2) > 1.2 * (at(reports, "sbp", 1) - at(reports, "dbp", 1))).all()
    assert at(reports, "heart_rate", 3).min() > 55


def news2(signs):
    """Return the points of each parameter, by the chart that the rules use."""
    chart = {parameter.metric: parameter.points for parameter in scores()["news2"].score.parameters}
    return [
        next((points for bound, points in chart[metric].up_to.items() if value <= bound), chart[metric].above)
        for metric, value in signs.items()
    ]


@pytest.mark.parametrize(("kind", "hours", "total"), [("sepsis", 6, 7), ("hypoxia", 1, 5), ("haemorrhage", 1, 7), ("bradycardia", 1, 3)])
def test_a_full_episode_scores_as_an_emergency_and_health_scores_nothing(kind, hours, total):
    """At depth 1 the early warning score of the shipped pack must see it: all of a ward's patients, by their averages."""
    reports = ward(EpisodeKind(kind), hours)
    metrics = ("heart_rate", "spo2", "respiratory_rate", "sbp", "body_temperature")
    for patient in range(COUNT):
        healthy, ill = ({metric: round(at(reports, metric, hour)[patient], 1) for metric in metrics} for hour in (1, 1 + hours))
        assert sum(news2(healthy)) <= 2, healthy
        assert sum(news2(ill)) >= total, ill
        assert max(news2(ill)) == 3, ill


@pytest.mark.parametrize("kind", EpisodeKind)
def test_a_deeper_episode_strains_more_and_an_episode_strains_nobody_else(kind):
    def vitals(depths):
        world = Patients(3, seed=8, start_ms=START)
        for patient, depth in depths:
            world.episode(patient, kind, START, START + HOUR, depth=depth)
        reports = world.step(START + HOUR)
        return [series(reports, VITALS, patient)[1] for patient in range(3)]

    healthy, mild, severe = vitals([]), vitals([(1, 0.4)]), vitals([(1, 1.0)])
    for patient in (0, 2):
        for metric in VITALS:
            assert np.array_equal(healthy[patient][metric], severe[patient][metric])
    change = [np.abs(ward[1]["heart_rate"] - healthy[1]["heart_rate"])[-600:].mean() for ward in (mild, severe)]
    assert change[1] > 1.5 * change[0] > 3


def artefact(kind, patient=1):
    """Return what a monitor shows with an artefact for ten minutes and what it would have shown, from an hour's reports."""
    worlds = [Patients(3, seed=5, start_ms=START, cuff_ms=MINUTE) for _ in range(2)]
    worlds[0].artefact(patient, kind, START + 30 * MINUTE, START + 40 * MINUTE)
    return [world.step(START + HOUR) for world in worlds]


@pytest.mark.parametrize("kind", ArtefactKind)
def test_an_artefact_changes_nothing_but_what_it_acts_on(kind):
    """Else a script could not say what it did."""
    disturbed, clean = artefact(kind)
    touched = {ArtefactKind.PROBE_OFF: {"spo2"}, ArtefactKind.MOTION: set(VITALS), ArtefactKind.CUFF_ERROR: set(CUFF)}[kind]
    found = set()
    for metrics in (VITALS, CUFF, TEMPERATURE):
        for patient in range(3):
            times, one = series(disturbed, metrics, patient)
            _, other = series(clean, metrics, patient)
            for metric in metrics:
                differs = times[~((one[metric] == other[metric]) | (np.isnan(one[metric]) & np.isnan(other[metric])))]
                if differs.size:
                    assert patient == 1
                    assert START + 30 * MINUTE <= differs.min() <= differs.max() < START + 40 * MINUTE
                    found.add(metric)
    assert found == touched


def test_motion_reads_as_a_low_saturation_and_a_heart_that_jumps():
    times, moved = series(artefact(ArtefactKind.MOTION)[0], VITALS, 1)
    during = (times >= START + 30 * MINUTE) & (times < START + 40 * MINUTE)
    assert np.nanmean(moved["spo2"][during]) < moved["spo2"][~during].mean() - 4
    assert 0.1 < np.isnan(moved["spo2"][during]).mean() < 0.3
    assert np.abs(np.diff(moved["heart_rate"][during])).mean() > 5 * np.abs(np.diff(moved["heart_rate"][~during])).mean()


def test_a_cuff_that_errs_measures_nothing_or_what_no_pressure_is():
    disturbed, clean = artefact(ArtefactKind.CUFF_ERROR)
    times, wrong = series(disturbed, CUFF, 1)
    right = series(clean, CUFF, 1)[1]
    during = (times >= START + 30 * MINUTE) & (times < START + 40 * MINUTE)
    ratio = (wrong["sbp"] / right["sbp"])[during]
    assert during.sum() == 10
    assert np.isnan(ratio).any()
    assert (ratio > 1.5).any() | (ratio < 0.5).any()
    assert (np.isnan(ratio) | (ratio > 1.5) | (ratio < 0.5)).all()
