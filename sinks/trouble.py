"""One voice for a failure that repeats: logged once per change of its text, and once more when it is over, with the count in between.

A destination that answers now and then, failing and succeeding by turns, is not a new story each time: the same text is quiet for a minute.
"""

import logging
import time
from collections.abc import Callable

QUIET_S = 60.0


class Trouble:
    def __init__(self, logger: logging.Logger, what: str, name: str, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._what = what  # `sinks.delivery`: the events are `<what>_failed` and `<what>_recovered`
        self._name = name
        self._clock_s = clock_s
        self._text = ""
        self._said_s = 0.0
        self._is_said = False  # that it fails, and not yet that it is over
        self._failures = 0

    def report(self, error: Exception) -> None:
        """Say that it failed, unless that is what was said last."""
        self._failures += 1
        text, now_s = str(error), self._clock_s()
        if text == self._text and (self._is_said or now_s - self._said_s < QUIET_S):
            return
        self._text, self._said_s, self._is_said = text, now_s, True
        self._logger.warning("%s_failed name=%s error=%r", self._what, self._name, text)

    def over(self) -> None:
        """Say that it works again, where it was said that it does not."""
        if self._is_said:
            self._logger.info("%s_recovered name=%s failures=%d", self._what, self._name, self._failures)
            self._is_said, self._failures = False, 0
