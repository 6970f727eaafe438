"""A line of progress on a terminal: how much is done, how fast, and how long it will take. Nothing where nobody looks."""

import sys
import time

import click

EVERY_S = 0.2


class Progress:
    """Called with how far it is, of the total (0: nobody knows), and readings (or whatever is counted) so far."""

    def __init__(self, what: str, total: int, unit: str = "readings") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.began_s = time.perf_counter()
        self.shown_s = 0.0
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal and self.shown_s:
            click.echo("\r\x1b[K", err=True, nl=False)

    def __call__(self, done: int, readings: int) -> None:
        elapsed_s = time.perf_counter() - self.began_s
        if self.terminal and elapsed_s - self.shown_s > EVERY_S:
            self.shown_s = elapsed_s
            click.echo(f"\r\x1b[K{self.what} {line(done, readings, self.total, elapsed_s, self.unit)}", err=True, nl=False)


def line(done: int, readings: int, total: int, elapsed_s: float, unit: str = "readings") -> str:
    """Return the line after some seconds."""
    speed = f", {readings / elapsed_s:,.0f}/s" if elapsed_s > 0 else ""
    if not total:
        return f"{readings:,} {unit}{speed}"
    share = min(done / total, 1.0)
    left = f", {elapsed_s * (1 - share) / share:.0f} s left" if share > 0 else ""
    return f"[{'#' * round(share * 20):20}] {share:4.0%}  {readings:,} {unit}{speed}{left}"
