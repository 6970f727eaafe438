"""Closed windows in event time: when each is due, and what is to be told of it, first and again when a late reading falls into it.

Theory of operation. No sums are kept: a window is made of the readings that the history holds when it is due, and made again when one comes
late. A unit (a series, or a signal of a subject) knows the earliest of its windows that is open and holds a reading, and up to which window
all are closed. Its watermark is its latest event time, and runs on with the journal's clock while nothing comes; a window is due when
the watermark reaches its end plus grace, and `due_ms` is the journal time at which that will be. `closed_to` never goes back, so what
falls below it is a revision, told within a second: the same for every order of arrival in the end.
"""

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rules.aggregates import summarise
from rules.columns import FOREVER, NEVER, Columns, Integers, begins, lengths
from rules.history import spans
from rules.past import Slices
from rules.window import Window

REVISE_EVERY_MS = 1000
"""Windows that late readings changed are told anew at most so often, on the journal's clock: a backlog is one revision, not hundreds."""

NONE = FOREVER
"""No open window."""


class Past(Protocol):
    """Where the readings of units are."""

    def between(self, units: Integers, from_ms: Integers, until_ms: Integers) -> Slices: ...

    def first_from(self, units: Integers, from_ms: Integers) -> Integers: ...


class Closed(NamedTuple):
    """Closed windows, ordered by unit and start; each array has one entry a window."""

    units: Integers
    opens_ms: Integers
    closes_ms: Integers
    revisions: Integers
    values: dict[str, NDArray[Any]]  # by aggregate; of a window that is withdrawn the count is 0
    positions: Integers  # the message of the window that was journalled last


class Session(NamedTuple):
    """A session as it was told. Durable; grows at its end only."""

    last_ms: int  # its last reading
    count: int  # type: ignore[assignment]  # the aggregate's name; 0: withdrawn
    revision: int


class WindowTable(Columns):
    """The windows of one form of all units; what is told of them is `wanted`."""

    spec = {
        "next": (np.int64, NONE),  # number of the earliest open window that holds a reading; of sessions, the time from which they are open
        "closed_to": (np.int64, NEVER),  # number of the first window that is not closed; of sessions, a time likewise
        "due_ms": (np.int64, FOREVER),  # journal time
        "settled_ms": (np.int64, NEVER),  # windows that end by then are final; sessions that begin by then, or a gap after it
    }
    next: Integers
    closed_to: Integers
    due_ms: Integers
    settled_ms: Integers

    def __init__(self, window: Window, grace_ms: int, wanted: Collection[str]) -> None:
        super().__init__()
        self.window, self.grace_ms, self.wanted = window, grace_ms, tuple(wanted)
        self.next_due_ms = FOREVER  # no window is due before
        self.dirty: dict[tuple[int, int], tuple[int, int]] = {}  # (unit, number) -> when it is told again, readings that fell into it
        self.revise_at_ms = FOREVER  # when the first of them is
        self.revised: dict[tuple[int, int], int] = {}  # (unit, opens_ms) -> the last revision that was told, where it is not the first
        self.sessions: dict[int, dict[int, Session]] = {}  # by unit and opens_ms: what was told

    # -- readings come ------------------------------------------------------------------------------------------------------------

    def arrived(self, units: Integers, times_ms: Integers, now_ms: int) -> None:
        """Take note of readings, sorted by unit and time, that the past holds already. `schedule` must follow."""
        starts = np.flatnonzero(begins(units))
        touched, first_ms = units[starts], times_ms[starts]
        closed_to = self.closed_to[touched]
        revise_at_ms = (now_ms // REVISE_EVERY_MS + 1) * REVISE_EVERY_MS
        if self.window.gap_ms:
            behind = first_ms < closed_to
            fresh = touched[~behind]
            self.next[fresh] = np.minimum(self.next[fresh], first_ms[~behind])
            for unit in touched[behind].tolist():
                self.dirty.setdefault((unit, NEVER), (revise_at_ms, 0))
        else:
            earliest = (first_ms - self.window.size_ms) // self.window.every_ms + 1
            self.next[touched] = np.minimum(self.next[touched], np.maximum(earliest, closed_to))
            behind = earliest < closed_to
            if behind.any():
                again = np.repeat(behind, lengths(starts, len(units)))
                self._note(units[again], times_ms[again], revise_at_ms)
        if self.dirty:
            self.revise_at_ms = min(self.revise_at_ms, revise_at_ms)

    def _note(self, units: Integers, times_ms: Integers, revise_at_ms: int) -> None:
        """Note the closed windows into which readings fall, and how many do."""
        size, every = self.window.size_ms, self.window.every_ms
        for unit, time_ms, closed_to in zip(units.tolist(), times_ms.tolist(), self.closed_to[units].tolist(), strict=True):
            for number in range((time_ms - size) // every + 1, min(time_ms // every + 1, closed_to)):
                at_ms, count = self.dirty.get((unit, number), (revise_at_ms, 0))
                self.dirty[unit, number] = at_ms, count + 1

    def schedule(self, units: Integers, last_ms: Integers, advanced_ms: Integers) -> None:
        """Work out when the open windows of some units are due, from their latest event time and when it came, by unit."""
        following = self.next[units]
        if self.window.gap_ms:
            end_ms = np.where(following == NONE, 0, following) + self.window.gap_ms
        else:
            end_ms = np.where(following == NONE, 0, following) * self.window.every_ms + self.window.size_ms
        due = np.where(following == NONE, FOREVER, advanced_ms[units] + np.maximum(end_ms + self.grace_ms - last_ms[units], 0))
        self.due_ms[units] = due
        if len(due):
            self.next_due_ms = min(self.next_due_ms, int(due.min()))

    def reschedule(self, last_ms: Integers, advanced_ms: Integers) -> None:
        """Work out anew when every unit's windows are due: the clock was set."""
        self.next_due_ms = FOREVER
        self.schedule(np.arange(self.length), last_ms, advanced_ms)

    # -- windows close ------------------------------------------------------------------------------------------------------------

    def close_due(self, now_ms: int, last_ms: Integers, advanced_ms: Integers, past: Past) -> Closed | None:
        """Close what is due at a time of the journal's clock."""
        if now_ms < self.next_due_ms:
            return None
        units = np.flatnonzero(self.due_ms[: self.length] <= now_ms)
        watermark = last_ms[units] + (now_ms - advanced_ms[units])
        closed = self._close(units, watermark, past)
        self.next_due_ms = FOREVER
        self.schedule(units, last_ms, advanced_ms)
        self.next_due_ms = int(self.due_ms[: self.length].min(initial=FOREVER))
        return closed

    def close_all(self, past: Past) -> Closed | None:
        """Close every open window: the windows are about to be defined anew."""
        units = np.flatnonzero(self.next[: self.length] != NONE)
        return self._close(units, np.full(len(units), FOREVER // 2), past)

    def _close(self, units: Integers, watermark: Integers, past: Past) -> Closed | None:
        if not len(units):
            return None
        if self.window.gap_ms:
            return self._close_sessions(units, watermark, past)
        size, every = self.window.size_ms, self.window.every_ms
        following = self.next[units]
        ended = np.maximum((watermark - size - self.grace_ms) // every + 1, following)  # the first window that stays open
        until_ms = (ended - 1) * every + size
        part = past.between(units, following * every, np.where(ended > following, until_ms, following * every))
        closed = self._cut(units, part, following, ended)
        self.closed_to[units] = np.maximum(self.closed_to[units], ended)
        rest = past.first_from(units, ended * every)
        earliest = np.maximum((rest - size) // every + 1, ended)
        self.next[units] = np.where(rest == FOREVER, NONE, earliest)
        return closed

    def _cut(self, units: Integers, part: Slices, low: Integers, high: Integers) -> Closed | None:
        """Return the windows numbered `[low, high)` of each unit that hold readings of its part."""
        size, every = self.window.size_ms, self.window.every_ms
        index = _indices(part)
        owner = np.repeat(np.arange(len(units)), part.counts)
        times_ms = part.times_ms[index]
        if size == every:
            numbers = times_ms // every
            first = np.flatnonzero(begins(owner) | begins(numbers))
            if not len(first):
                return None
            owners, numbers = owner[first], numbers[first]
            return self._summaries(units[owners], numbers, part._replace(starts=index[first], counts=lengths(first, len(index))))
        held = -(-size // every)
        numbers = times_ms[:, None] // every - np.arange(held)
        owners = np.broadcast_to(owner[:, None], numbers.shape)
        inside = (numbers * every + size > times_ms[:, None]) & (numbers >= low[owners]) & (numbers < high[owners])
        pairs = np.unique(np.stack([owners[inside], numbers[inside]], axis=1), axis=0)
        if not len(pairs):
            return None
        owners, numbers = pairs[:, 0], pairs[:, 1]
        starts, counts = _within(part, owners, numbers * every, numbers * every + size)
        return self._summaries(units[owners], numbers, part._replace(starts=starts, counts=counts))

    def _summaries(self, units: Integers, numbers: Integers, part: Slices) -> Closed:
        opens_ms = numbers * self.window.every_ms
        values = summarise(part.starts, part.counts, part.times_ms, part.values, self.wanted)
        revisions = np.ones(len(units), np.int64)
        return Closed(units, opens_ms, opens_ms + self.window.size_ms, revisions, values, part.latest_positions())

    def revise_due(self, now_ms: int, past: Past) -> Closed | None:
        """Return the closed windows into which readings fell since this was last due, as they are with them."""
        if not self.dirty or now_ms < self.revise_at_ms:
            return None
        due = [(*key, count) for key, (at_ms, count) in sorted(self.dirty.items()) if at_ms <= now_ms]
        self.dirty = {key: noted for key, noted in self.dirty.items() if noted[0] > now_ms}
        self.revise_at_ms = min((at_ms for at_ms, _ in self.dirty.values()), default=FOREVER)
        if self.window.gap_ms:
            changed = [self._changed_sessions(unit, past) for unit, _, _ in due]
            return _joined([item for item in changed if item is not None])
        size, every = self.window.size_ms, self.window.every_ms
        units, numbers, added = (np.array(column) for column in zip(*due, strict=True))
        part = past.between(units, numbers * every, numbers * every + size)
        closed = self._summaries(units, numbers, part)
        for at, unit in enumerate(units.tolist()):
            closed.revisions[at] = self._revision(unit, int(closed.opens_ms[at]), known=bool(part.counts[at] > added[at]))
        return closed

    def _revision(self, unit: int, opens_ms: int, *, known: bool) -> int:
        """Return the next revision of a window; `known` is whether it was told before."""
        key = unit, opens_ms
        if key not in self.revised and not known:
            return 1
        self.revised[key] = self.revised.get(key, 1) + 1
        return self.revised[key]

    # -- sessions -----------------------------------------------------------------------------------------------------------------

    def _close_sessions(self, units: Integers, watermark: Integers, past: Past) -> Closed | None:
        gap = self.window.gap_ms
        part = past.between(units, self.next[units], np.full(len(units), FOREVER))
        index = _indices(part)
        owner, times_ms = np.repeat(np.arange(len(units)), part.counts), part.times_ms[index]
        first, last = _sessions(owner, times_ms, gap)
        owners = owner[first]
        ended = times_ms[last] + gap + self.grace_ms <= watermark[owners]
        self.next[units] = NONE
        for at, time_ms in zip(owners[~ended][::-1].tolist(), times_ms[first[~ended]][::-1].tolist(), strict=True):
            self.next[units[at]] = time_ms
        if not ended.any():
            return None
        first, last, owners = first[ended], last[ended], owners[ended]
        np.maximum.at(self.closed_to, units[owners], times_ms[last] + gap)
        chosen = part._replace(starts=np.arange(len(index))[first], counts=last - first + 1)
        gathered = Slices(chosen.starts, chosen.counts, times_ms, part.values[index], part.positions[index])
        return self._tell_sessions(units[owners], times_ms[first], times_ms[last], gathered, {})

    def _changed_sessions(self, unit: int, past: Past) -> Closed | None:
        """Return the sessions of a unit that are not what was told of them; those that are open again are withdrawn meanwhile."""
        part, first, last = self._all_sessions(unit, past)
        times_ms = part.times_ms
        closed = times_ms[last] + self.window.gap_ms <= self.closed_to[unit]
        still_open = first[~closed]
        self.next[unit] = int(times_ms[still_open[0]]) if len(still_open) else NONE
        self.due_ms[unit], self.next_due_ms = NEVER, NEVER  # looked at anew
        told = self.sessions.get(unit, {})
        now = {int(times_ms[a]): (int(times_ms[b]), int(b - a + 1)) for a, b in zip(first[closed], last[closed], strict=True)}
        settled = int(self.settled_ms[unit])
        gone = {
            opens: session for opens, session in told.items() if session.count and opens not in now and opens > settled + self.window.gap_ms
        }
        new = [at for at in np.flatnonzero(closed).tolist() if _differs(told.get(int(times_ms[first[at]])), now[int(times_ms[first[at]])])]
        chosen = Slices(first[new], (last - first + 1)[new], times_ms, part.values, part.positions)
        return self._tell_sessions(np.full(len(new), unit), times_ms[first[new]], times_ms[last[new]], chosen, {unit: gone})

    def _all_sessions(self, unit: int, past: Past) -> tuple[Slices, Integers, Integers]:
        """Return a unit's readings and where its sessions begin and end among them, without those that may have begun before."""
        settled = int(self.settled_ms[unit])
        part = past.between(np.array([unit]), np.array([settled + 1]), np.array([FOREVER]))
        index = _indices(part)
        part = Slices(np.array([0]), part.counts, part.times_ms[index], part.values[index], part.positions[index])
        first, last = _sessions(np.zeros(len(index), np.int64), part.times_ms, self.window.gap_ms)
        whole = part.times_ms[first] > settled + self.window.gap_ms
        return part, first[whole], last[whole]

    def _tell_sessions(
        self, units: Integers, first_ms: Integers, last_ms: Integers, part: Slices, gone: dict[int, dict[int, "Session"]]
    ) -> Closed | None:
        revisions = []
        for unit, opens, last, count in zip(units.tolist(), first_ms.tolist(), last_ms.tolist(), part.counts.tolist(), strict=True):
            told = self.sessions.setdefault(unit, {})
            revisions.append(told[opens].revision + 1 if opens in told else 1)
            told[opens] = Session(last, count, revisions[-1])
        values = summarise(part.starts, part.counts, part.times_ms, part.values, self.wanted)
        closed = Closed(units, first_ms, last_ms + self.window.gap_ms, np.array(revisions, np.int64), values, part.latest_positions())
        withdrawn = [self._withdrawn(unit, opens, session) for unit, sessions in gone.items() for opens, session in sessions.items()]
        return _joined([*withdrawn, closed] if len(units) else withdrawn)

    def _withdrawn(self, unit: int, opens: int, session: "Session") -> Closed:
        self.sessions[unit][opens] = Session(session.last_ms, 0, session.revision + 1)
        values: dict[str, NDArray[Any]] = {name: np.array([np.nan]) for name in self.wanted}
        if "count" in values:
            values["count"] = np.array([0])
        closes_ms = session.last_ms + self.window.gap_ms
        return Closed(np.array([unit]), np.array([opens]), np.array([closes_ms]), np.array([session.revision + 1]), values, np.array([0]))

    # -- the past -----------------------------------------------------------------------------------------------------------------

    def all_closed(self, unit: int, past: Past) -> Closed | None:
        """Return every closed window of a unit that ends after what is settled, as it is now."""
        settled = int(self.settled_ms[unit])
        if self.window.gap_ms:
            part, first, last = self._all_sessions(unit, past)
            closed = part.times_ms[last] + self.window.gap_ms <= self.closed_to[unit]
            first, last = first[closed], last[closed]
            if not len(first):
                return None
            values = summarise(first, last - first + 1, part.times_ms, part.values, self.wanted)
            part = part._replace(starts=first, counts=last - first + 1)
            ones = np.ones(len(first), np.int64)
            closes_ms = part.times_ms[last] + self.window.gap_ms
            return Closed(unit * ones, part.times_ms[first], closes_ms, ones, values, part.latest_positions())
        size, every = self.window.size_ms, self.window.every_ms
        low, high = np.array([(settled - size) // every + 1]), self.closed_to[[unit]]
        units, until_ms = np.array([unit]), np.maximum((high - 1) * every + size, low * every)
        return self._cut(units, past.between(units, low * every, until_ms), low, high)

    # -- state --------------------------------------------------------------------------------------------------------------------

    def settle(self, units: Integers, settled_ms: Integers) -> Integers:
        """Take note up to when units are final, and forget what was told of their windows until then.

        Returns from when on the readings of each unit are still needed: windows that end after what is settled may have begun long before.
        """
        self.settled_ms[units] = settled_ms
        if not self.window.gap_ms:
            if self.revised:
                size = self.window.size_ms
                self.revised = {key: last for key, last in self.revised.items() if key[1] + size > self.settled_ms[key[0]]}
            return (settled_ms - self.window.size_ms) // self.window.every_ms * self.window.every_ms
        needed = self.next[units]
        for at, (unit, until_ms) in enumerate(zip(units.tolist(), settled_ms.tolist(), strict=True)):
            open_from, told = int(self.next[unit]), self.sessions.get(unit, {})  # one that is open again was told once
            kept = {opens: last for opens, last in told.items() if last.last_ms + self.window.gap_ms > until_ms or opens >= open_from}
            if unit in self.sessions:
                self.sessions[unit] = kept
            needed[at] = min(int(needed[at]), min(kept, default=FOREVER), until_ms) - self.window.gap_ms - 1
            self.settled_ms[unit] = needed[at]
        return needed

    def dump_told(self) -> tuple[Any, ...]:
        """Return the state as plain values and arrays."""
        sessions = {unit: {opens: tuple(told) for opens, told in held.items()} for unit, held in self.sessions.items()}
        columns = self.dump()
        if not self.window.gap_ms:  # it follows from the clocks
            columns.pop("due_ms", None)
        return columns, dict(self.revised), sessions, dict(self.dirty), self.revise_at_ms

    def restore_told(self, dumped: tuple[Any, ...]) -> None:
        """Take what `dump_told` returned."""
        columns, revised, sessions, dirty, self.revise_at_ms = dumped
        self.dirty = {key: noted if isinstance(noted, tuple) else (self.revise_at_ms, noted) for key, noted in dirty.items()}
        self.restore(columns)
        self.revised = dict(revised)
        self.sessions = {unit: {opens: Session(*told) for opens, told in held.items()} for unit, held in sessions.items()}
        self.next_due_ms = NEVER  # looked at anew


def _indices(part: Slices) -> Integers:
    return spans(part.starts, part.counts)


def _within(part: Slices, owners: Integers, from_ms: Integers, until_ms: Integers) -> tuple[Integers, Integers]:
    """Return where the readings in `[from_ms, until_ms)` of the owners' groups begin, and how many they are."""
    low, end = part.starts[owners], part.starts[owners] + part.counts[owners]
    found = []
    for bound in (from_ms, until_ms):
        left, right = low.copy(), end.copy()
        for _ in range(int((right - left).max(initial=0)).bit_length()):
            middle = (left + right) >> 1
            before = (middle < right) & (part.times_ms[np.minimum(middle, len(part.times_ms) - 1)] < bound)
            left, right = np.where(before, middle + 1, left), np.where(before, right, middle)
        found.append(left)
    return found[0], found[1] - found[0]


def _sessions(owner: Integers, times_ms: Integers, gap_ms: int) -> tuple[Integers, Integers]:
    """Return the indices of the first and the last reading of each session; a new one begins with an owner or after a gap."""
    new = begins(owner)
    new[1:] |= times_ms[1:] - times_ms[:-1] >= gap_ms
    first = np.flatnonzero(new)
    return first, first + lengths(first, len(owner)) - 1


def _differs(told: "Session | None", now: tuple[int, int]) -> bool:
    return told is None or (told.last_ms, told.count) != now


def _joined(parts: list[Closed]) -> Closed | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Closed._fields if name != "values"}
    return Closed(**columns, values=values)
