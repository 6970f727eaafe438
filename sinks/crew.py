"""The destinations of one process, each in its own thread. One that crashes is made anew after a while; the others never notice."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

logger = logging.getLogger(__name__)

REST_S, LONGEST_REST_S = 1.0, 60.0
WATCH_S = 0.2


class Loop(Protocol):
    """A delivery: runs until the event it was made with is set."""

    def run(self) -> None: ...


def run_all(build: Mapping[str, Callable[[], Loop]], stop: threading.Event, *, rest_s: float = REST_S) -> None:
    """Make and run every loop until `stop` is set. What `build` raises at first is raised here; later it is logged and tried again."""
    loops = {name: make() for name, make in build.items()}
    rests = dict.fromkeys(build, rest_s)
    due: dict[str, float] = {}
    with ThreadPoolExecutor(max(1, len(build)), thread_name_prefix="deliver") as pool:
        running: dict[Future[None], str] = {pool.submit(loop.run): name for name, loop in loops.items()}
        while not stop.wait(0 if running else WATCH_S):
            ended = wait(running, timeout=WATCH_S, return_when=FIRST_COMPLETED).done
            for future in ended:
                name = running.pop(future)
                if stop.is_set():
                    continue
                logger.error("sinks.delivery_crashed name=%s again_in_s=%.0f", name, rests[name], exc_info=future.exception())
                due[name] = time.monotonic() + rests[name]
                rests[name] = min(LONGEST_REST_S, rests[name] * 2)
            for name in [name for name, due_s in due.items() if due_s <= time.monotonic()]:
                del due[name]
                running[pool.submit(_remake, build[name])] = name


def _remake(make: Callable[[], Loop]) -> None:
    make().run()
