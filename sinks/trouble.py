"""One voice for a failure that repeats: logged once per change of its text, and once more when it is over, with the count in between."""

import logging


class Trouble:
    def __init__(self, logger: logging.Logger, what: str, name: str) -> None:
        self._logger = logger
        self._what = what  # `sinks.delivery`: the events are `<what>_failed` and `<what>_recovered`
        self._name = name
        self._text = ""
        self._failures = 0

    def report(self, error: Exception) -> None:
        """Say that it failed, unless that is what was said last."""
        self._failures += 1
        if str(error) != self._text:
            self._text = str(error)
            self._logger.warning("%s_failed name=%s error=%r", self._what, self._name, self._text)

    def over(self) -> None:
        """Say that it works again, where it did not."""
        if self._failures:
            self._logger.info("%s_recovered name=%s failures=%d", self._what, self._name, self._failures)
            self._text, self._failures = "", 0
