"""The demo as it runs: a line that lives on a terminal, a plain line every few seconds elsewhere, and each alert as it happens."""

from collections import deque
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_LINE_S = 5.0
RATE_SPAN_S = 4.0
COLOURS = {"[CRITICAL]": "bold red", "[WARNING]": "yellow", "[INFO]": "cyan"}


class Progress(NamedTuple):
    elapsed_s: float
    of_s: float | None
    received: int  # readings, so far
    undecided: int  # messages that wait for the flow
    open_alerts: int
    note: str = ""


class Screen:
    """Shows progress and lines; a context manager. Lines may come from any thread."""

    def __init__(self, *, quiet_stdout: bool) -> None:
        self.console = Console(stderr=quiet_stdout, highlight=False, soft_wrap=True)
        self.live = Live(console=self.console, refresh_per_second=4, transient=True) if self.console.is_terminal else None
        self._seen: deque[tuple[float, int]] = deque()
        self._told_s = -PLAIN_LINE_S / 2

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        style = next((colour for mark, colour in COLOURS.items() if mark in line), "")
        if " resolved: " in line:
            style = "green"
        self.console.print(Text(line, style=style))

    def show(self, progress: Progress) -> None:
        """Show how it goes."""
        line = self._line(progress)
        if self.live is not None:
            self.live.update(Text(line, style="dim"))
        elif progress.elapsed_s - self._told_s >= PLAIN_LINE_S:
            self._told_s = progress.elapsed_s
            self.console.print(Text(line))

    def _line(self, progress: Progress) -> str:
        until = f"{progress.elapsed_s:.0f} s" + (f" of {progress.of_s:.0f}" if progress.of_s is not None else "")
        shown = f"{until}: {progress.received} readings, {self._rate(progress.received):.0f}/s, "
        shown += f"{progress.undecided} messages behind, {progress.open_alerts} alerts open"
        return f"{shown}; {progress.note}" if progress.note else shown

    def _rate(self, received: int) -> float:
        """Return readings a second over the last few seconds."""
        now = monotonic()
        self._seen.append((now, received))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_SPAN_S:
            self._seen.popleft()
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0
