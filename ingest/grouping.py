"""How long messages wait for company before they are committed together. Pure: time comes in as an argument.

A commit costs the same for one message as for a thousand, and a row is what is decided in one go downstream. So:

- Commits start no closer together than a gap. The first message after a quiet time is committed at once; only those behind it wait.
- The gap is half `commit_ms` up to 5,000 messages a second, grows with the rate and ends at four times `commit_ms`. A few messages hardly
  wait; under full load rows are long.
- A group that makes rows of ROW_MESSAGES in every partition is committed at once, for longer rows gain little.
- Where waiting brings nothing, because the broker sends no more before it sees acknowledgements (`max_inflight_messages`), there is no more
  waiting; now and then one short wait tries again.

A disk that is slow groups by itself: what arrives during a commit is the next group.
"""

ROW_MESSAGES = 100

ORDINARY_RATE = 10_000  # messages a second at which the gap is `commit_ms`
SHORTEST_GAP, LONGEST_GAP = 0.5, 4.0  # times `commit_ms`

RATE_MEMORY_S = 0.1

VAIN_WAITS = 3  # in a row: then no more waiting
TRY_AGAIN_COMMITS = 64
TRY_AGAIN_S = 0.0005


class Grouping:
    def __init__(self, *, commit_messages: int, commit_ms: float, partitions: int) -> None:
        self.enough = min(commit_messages, ROW_MESSAGES * partitions)
        self._commit_s = commit_ms / 1000
        self._rate = 0.0  # messages a second, lately
        self._started = float("-inf")  # when the last commit began
        self._vain = 0  # waits in a row that brought nothing
        self._commits = 0  # since waiting was given up

    def wait_s(self, now: float, waiting: int) -> float:
        """Return how long to wait for more before these messages are committed."""
        if waiting >= self.enough:
            return 0.0
        if self._vain >= VAIN_WAITS:
            return TRY_AGAIN_S if self._commits % TRY_AGAIN_COMMITS == TRY_AGAIN_COMMITS - 1 else 0.0
        return max(0.0, self._started + self.gap_s() - now)

    def gap_s(self) -> float:
        """Return the shortest time between the beginnings of two commits."""
        return self._commit_s * min(max(self._rate / ORDINARY_RATE, SHORTEST_GAP), LONGEST_GAP)

    def waited(self, *, brought_more: bool) -> None:
        """Learn from a wait."""
        self._vain = 0 if brought_more else self._vain + 1
        self._commits = 0

    def committed(self, started: float, messages: int) -> None:
        """Learn from a commit."""
        since = max(started - self._started, 1e-6)
        self._rate += (messages / since - self._rate) * min(1.0, since / RATE_MEMORY_S)
        self._started = started
        self._commits += 1
