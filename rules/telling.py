"""Decisions to events, and alerts on a signal that is absent: those are for the record, until the signal is back and they still stand."""

from rules.control import Settings
from rules.derived import DerivedTable
from rules.events import silence_id, value_event
from rules.judging import Decided, Judging
from rules.metrics import MetricTable
from rules.rule import Rule
from rules.series import SeriesTable
from rules.signals import SignalTable
from rules.silence import SilenceTable
from rules.track import Verdict
from rules.watch import Watch
from telemetry.alert import SHADOW, AlertEvent, Evidence, Phase


class Telling:
    """Makes the events of value rules."""

    def __init__(self, series: SeriesTable, metrics: MetricTable, judging: Judging) -> None:
        self.series, self.metrics, self.judging = series, metrics, judging

    def events(self, watch: Watch, settings: Settings, decided: list[Decided], now_ms: int) -> list[AlertEvent]:
        """Return the events of decisions. What is raised on an absent signal, or in shadow, names that, until it is over."""
        told = []
        for item in decided:
            track = item.table.track(item.row, item.rule.id)
            known = track.find(item.verdict.told.alert_id)
            absence = self._inhibition(watch, item.rule, item.table, item.row) if item.verdict.phase is Phase.RAISED else None
            if absence is not None and not known.inhibited_by:
                known = known._replace(inhibited_by=absence)
                track.replace(known)
            told.append(
                value_event(item, watch.rules.version, now_ms, settings.historic_after_ms, known.inhibited_by or None, self._evidence(item))
            )
        return told

    def after_all(self, watch: Watch, settings: Settings, now_ms: int) -> list[AlertEvent]:
        """Return the events of alerts that nobody was told of while their signal was absent or their rule in shadow, where they stand."""
        decided = []
        for table in watch.tables():
            for row, rule_id, told in list(table.open_alerts()):
                judge = table.bands[row].judges[rule_id]
                if told.inhibited_by and self._inhibition(watch, judge.rule, table, row) is None:
                    verdict = Verdict(Phase.RAISED, told._replace(revision=told.revision + 1, inhibited_by=""), told.decided)
                    table.track(row, rule_id).replace(verdict.told)
                    decided.append(Decided(judge.rule, self.metrics.subjects[row], table, row, verdict))
        return self.events(watch, settings, decided, now_ms)

    def _evidence(self, item: Decided) -> tuple[Evidence, ...]:
        """Return what a derived signal was made of when it decided."""
        if not isinstance(item.table, DerivedTable):
            return ()
        deciding = item.verdict.told
        times_ms = dict.fromkeys(seen.time_ms for seen in (deciding.started, deciding.decided, deciding.ended, deciding.resolved) if seen)
        parts = [part for time_ms in times_ms for part in self.judging.derived.parts(item.table, item.row, time_ms)]
        return tuple(dict.fromkeys(Evidence(time_ms, value, "", str(signal)) for signal, time_ms, value in parts))

    def _inhibition(self, watch: Watch, rule: Rule, table: SignalTable, row: int) -> str | None:
        """Return why nobody is told of an alert that is raised; None where somebody is."""
        return SHADOW if rule.shadow else self._absence(watch.silence, table, row)

    def _absence(self, silence: SilenceTable, table: SignalTable, row: int) -> str | None:
        """Return the absence because of which nothing is known of a signal: of one that is derived, all that it is made of is absent."""
        if not isinstance(table, DerivedTable):
            return self._absence_of(silence, row)
        absences = [self._absence_of(silence, source) for source in table.sources[row].values()]
        return None if None in absences else absences[0]

    def _absence_of(self, silence: SilenceTable, row: int) -> str | None:
        """Return the absence of a metric that is told, or that of all devices that bring it; None where it is not absent."""
        members = self.metrics.members(row)
        absent = silence.absence(int(self.series.silence[members[0]]))
        if absent is None:
            devices = [silence.absence(int(self.series.device_silence[member])) for member in members]
            if any(device is None for device in devices):
                return None
            absent = devices[0]
        return None if absent is None else silence_id(absent)
