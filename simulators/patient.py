"""Patients on monitors. Episodes act on bodies (simulators/physiology.py), whose signs therefore belong together; a monitor shows them in
whole numbers, takes pressure by a cuff at intervals, and is sometimes mistaken: a probe is off, a patient moves, a cuff errs.

What happens to one patient changes no reading of another, and no draw of its own.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from simulators.physiology import Bodies, Strain
from simulators.world import Floats, Integers, Reports, TickedWorld, fleet, named

KIND = "patient"
VITALS = ("heart_rate", "spo2", "respiratory_rate")
CUFF = ("sbp", "dbp", "map")
TEMPERATURE = ("body_temperature",)
TEMPERATURE_MS = 60_000


class EpisodeKind(StrEnum):
    SEPSIS = "sepsis"
    HYPOXIA = "hypoxia"
    HAEMORRHAGE = "haemorrhage"
    BRADYCARDIA = "bradycardia"


class ArtefactKind(StrEnum):
    PROBE_OFF = "probe_off"
    MOTION = "motion"
    CUFF_ERROR = "cuff_error"


class Course(NamedTuple):
    """What an episode of depth 1 comes to, and how fast it comes and goes: first-order, in seconds."""

    strain: Strain
    onset_s: float
    recovery_s: float


COURSES = {
    EpisodeKind.SEPSIS: Course(Strain(shortfall=4.0, loss=0.12, dilation=0.4, blunting=0.4, fever=2.2), 4_500.0, 10_800.0),
    EpisodeKind.HYPOXIA: Course(Strain(shortfall=15.0), 30.0, 30.0),
    EpisodeKind.HAEMORRHAGE: Course(Strain(loss=0.35), 600.0, 1_800.0),
    EpisodeKind.BRADYCARDIA: Course(Strain(block=1.0), 10.0, 20.0),
}


class _Episode(NamedTuple):
    patient: int
    start_ms: int
    end_ms: int
    onset_ms: float
    recovery_ms: float
    strain: tuple[float, ...]  # at its full depth


class _Artefact(NamedTuple):
    patient: int
    metrics: tuple[str, ...]  # which are not what they should be
    start_ms: int
    end_ms: int
    kind: ArtefactKind


class Patients(TickedWorld):
    """`count` monitors, each watching one patient."""

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        start_ms: int,
        tick_ms: int = 1_000,
        report_ms: int = 1_000,
        cuff_ms: int = 900_000,
        device_prefix: str = "monitor",
        subject_prefix: str = "patient",
        tags: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        devices = fleet(KIND, named(device_prefix, count), named(subject_prefix, count), tags)
        super().__init__(devices, seed=seed, start_ms=start_ms, tick_ms=tick_ms, report_ms=report_ms)
        self._tick_s = tick_ms / 1000
        self._cuff_every = max(1, cuff_ms // report_ms)
        self._temperature_every = max(1, TEMPERATURE_MS // report_ms)
        self._bodies = Bodies(count, self._random)
        self._mishaps = np.random.default_rng([seed, 1])  # a generator of their own: an artefact must not change other readings
        self._episodes: list[_Episode] = []
        self._artefacts: list[_Artefact] = []

    def episode(self, index: int, kind: EpisodeKind, start_ms: int, end_ms: int, *, depth: float = 1.0, lag_s: float | None = None) -> None:
        """Let something act on patient `index` in [`start_ms`, `end_ms`), after which the patient recovers.

        Depth 1 is severe: the packs `early-warning` and `vital-signs` alert. `lag_s` takes the place of the kind's own time constants.
        """
        course = COURSES[kind]
        onset_s, recovery_s = (course.onset_s, course.recovery_s) if lag_s is None else (lag_s, lag_s)
        strain = tuple(depth * part for part in course.strain)
        self._episodes.append(_Episode(index, start_ms, end_ms, onset_s * 1000, recovery_s * 1000, strain))

    def desaturate(self, index: int, start_ms: int, end_ms: int, *, nadir: float = 82.0, lag_s: float = 30.0) -> None:
        """Let patient `index` run short of oxygen from `start_ms` until `end_ms`, towards a saturation of `nadir`."""
        depth = (self._bodies.own_saturation(index) - nadir) / COURSES[EpisodeKind.HYPOXIA].strain.shortfall
        self.episode(index, EpisodeKind.HYPOXIA, start_ms, end_ms, depth=depth, lag_s=lag_s)

    def artefact(self, index: int, kind: ArtefactKind, start_ms: int, end_ms: int) -> None:
        """Let the monitor of patient `index` be mistaken from `start_ms` until `end_ms`."""
        metrics = {ArtefactKind.PROBE_OFF: ("spo2",), ArtefactKind.MOTION: VITALS, ArtefactKind.CUFF_ERROR: CUFF}[kind]
        self._artefacts.append(_Artefact(index, metrics, start_ms, end_ms, kind))

    def silence(self, index: int, metric: str, start_ms: int, end_ms: int) -> None:
        """Let one metric of patient `index` not be measured from `start_ms` until `end_ms`. Raises ValueError for an unknown metric."""
        if metric not in VITALS + CUFF + TEMPERATURE:
            msg = f"a monitor does not measure {metric!r}"
            raise ValueError(msg)
        self._artefacts.append(_Artefact(index, (metric,), start_ms, end_ms, ArtefactKind.PROBE_OFF))

    def _tick(self, time_ms: int) -> list[Reports]:
        self._strain(time_ms)
        reports = self._measure(time_ms)
        self._bodies.advance(self._tick_s)
        return reports

    def _strain(self, time_ms: int) -> None:
        """Add up what acts on each body now: every episode comes and goes exponentially."""
        self._bodies.strain.fill(0.0)
        if not self._episodes:
            return
        patients, starts, ends, onsets, recoveries = (np.array(column) for column in list(zip(*self._episodes, strict=True))[:5])
        acted = np.maximum(np.minimum(time_ms, ends) - starts, 0)
        severity = (1 - np.exp(-acted / onsets)) * np.exp(-np.maximum(time_ms - ends, 0) / recoveries)
        np.add.at(self._bodies.strain.T, patients, severity[:, np.newaxis] * np.array([episode.strain for episode in self._episodes]))

    def _measure(self, time_ms: int) -> list[Reports]:
        seconds = time_ms / 1000
        reports = []
        for metrics, due, columns in (
            (VITALS, self._due(), self._vitals),
            (CUFF, self._due(self._cuff_every), self._cuff),
            (TEMPERATURE, self._due(self._temperature_every), self._temperature),
        ):
            if due.size:
                report = self._reports(metrics, due, time_ms, columns(due, seconds))
                for artefact in self._artefacts:
                    self._disturb(report, artefact)
                reports.append(report)
        return reports

    def _vitals(self, due: Integers, seconds: float) -> list[Floats]:
        return [
            _shown(self._bodies.heart(due, seconds), 20.0, 220.0),
            _shown(self._bodies.saturation(due), 40.0, 100.0),
            _shown(self._bodies.breath(due), 4.0, 60.0),
        ]

    def _cuff(self, due: Integers, seconds: float) -> list[Floats]:
        mean, pulse = self._bodies.pressure(due, seconds)
        diastolic = mean - pulse / 3
        return [_shown(pressure, 15.0, 280.0) for pressure in (diastolic + pulse, diastolic, mean)]

    def _temperature(self, due: Integers, seconds: float) -> list[Floats]:
        measured = self._bodies.core(due, seconds) + self._random.normal(0.0, 0.04, due.size)
        return [np.round(measured, 1)]

    def _disturb(self, report: Reports, artefact: _Artefact) -> None:
        """Put into a report what the monitor takes for the signs while an artefact acts."""
        columns = [report.metrics.index(metric) for metric in artefact.metrics if metric in report.metrics]
        acting = (report.devices == artefact.patient) & (report.times_ms >= artefact.start_ms) & (report.times_ms < artefact.end_ms)
        for row in np.flatnonzero(acting) if columns else ():
            if artefact.kind is ArtefactKind.PROBE_OFF:
                report.values[row, columns] = np.nan
            elif artefact.kind is ArtefactKind.MOTION:
                report.values[row] = self._moved(report.values[row])
            else:
                report.values[row] = self._erred(report.values[row])

    def _moved(self, vitals: Floats) -> Floats:
        """Motion reads as venous blood: a saturation too low; heart and breath jump about, and a fifth of the saturations are given up."""
        draw = self._mishaps.normal(0.0, 1.0, 3)
        spo2 = np.nan if self._mishaps.random() < 0.2 else np.clip(vitals[1] - 3.0 - 6.0 * abs(draw[1]), 40.0, 100.0)
        moved = [np.clip(vitals[0] + 18.0 * draw[0], 20.0, 250.0), spo2, np.clip(vitals[2] + 7.0 * draw[2], 4.0, 60.0)]
        return np.round(np.array(moved))

    def _erred(self, pressures: Floats) -> Floats:
        """A cuff gives up, reads far too high (the arm was bent), or far too low (it sat loosely); a mean between the two it always has."""
        draw = self._mishaps.random()
        if draw < 1 / 3:
            return np.full(3, np.nan)
        systolic, diastolic = pressures[:2] * (self._mishaps.uniform(1.6, 2.0) if draw < 2 / 3 else self._mishaps.uniform(0.25, 0.45))
        return np.round(np.array([systolic, diastolic, diastolic + (systolic - diastolic) / 3]))


def _shown(values: Floats, low: float, high: float) -> Floats:
    """Return values as a monitor shows them: in whole numbers, within its range."""
    return values.clip(low, high).round()
