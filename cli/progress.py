"""A line of progress on a terminal: how much is done, how fast, and how long it will take. Nothing where nobody looks."""

import sys
import time

import click

EVERY_S = 0.2


class Progress:
    """Called with (rows, readings) so far. Without a total, only the speed is known."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self.began_s = time.perf_counter()
        self.shown_s = 0.0
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal and self.shown_s:
            click.echo("\r\x1b[K", err=True, nl=False)

    def __call__(self, rows: int, readings: int) -> None:
        elapsed_s = time.perf_counter() - self.began_s
        if self.terminal and elapsed_s - self.shown_s > EVERY_S:
            self.shown_s = elapsed_s
            click.echo(f"\r\x1b[K{line(rows, readings, self.total, elapsed_s)}", err=True, nl=False)


def line(rows: int, readings: int, total: int, elapsed_s: float) -> str:
    """Return the line after some seconds."""
    speed = readings / elapsed_s if elapsed_s > 0 else 0.0
    if not total:
        return f"{rows} rows, {readings:,} readings, {speed:,.0f}/s"
    left = f", {(total - readings) / speed:.0f} s left" if speed else ""
    done = min(readings / total, 1.0)
    return f"[{'#' * round(done * 20):20}] {done:4.0%}  {readings:,} of {total:,} readings, {speed:,.0f}/s{left}"
