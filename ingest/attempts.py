"""When to try to connect again, and what to say meanwhile: the same sentence once; after longer and longer waits, half of each chance."""

import random
import time

from ingest.settings import BrokerSettings

STEADY_AFTER_S = 10.0  # a connection that stood for so long counts as good: the next failure is a first one


class Attempts:
    """How it goes with the connections to one broker."""

    def __init__(self, broker: BrokerSettings) -> None:
        self.error = ""  # one sentence; empty where all is well
        self.failures = 0  # in a row
        self.due = 0.0  # when the next attempt is to be made, on the monotonic clock
        self._broker = broker
        self._said = ""
        self._stood_since = 0.0

    def failed(self, sentence: str) -> bool:
        """Note what is wrong, and set the time of the next attempt; return whether it is news."""
        self.error = sentence
        delay = min(self._broker.backoff_longest_s, self._broker.backoff_first_s * 2 ** min(self.failures, 16))
        self.failures += 1
        self.due = time.monotonic() + delay * random.uniform(0.5, 1)
        news, self._said = sentence != self._said, sentence
        return news

    def succeeded(self) -> None:
        """Hear that a connection stands."""
        self.error = self._said = ""
        self._stood_since = time.monotonic()

    def stands(self) -> None:
        """Hear that the connection still stands."""
        if self.failures and time.monotonic() - self._stood_since > STEADY_AFTER_S:
            self.failures = 0
