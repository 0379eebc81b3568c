"""How much memory a step takes at its height, worker processes included.

Belongs here: the sampling. Where the figure goes is `defs.engine.stage`'s.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

SECONDS_BETWEEN_SAMPLES = 0.5
MEGABYTE = 1_000_000


class PeakMemory:
    """The greatest sum of resident memory of this process and its workers that was seen so far.

    Pages that processes share count once in each, so that the figure errs on the safe side.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak_bytes = 0

    def sample(self) -> float:
        """Look once more; return the peak in megabytes (10^6 bytes)."""
        total = self._process.memory_info().rss
        for worker in self._process.children(recursive=True):
            try:
                total += worker.memory_info().rss
            except psutil.Error:  # ended meanwhile
                continue
        self._peak_bytes = max(self._peak_bytes, total)
        return self._peak_bytes / MEGABYTE


@contextmanager
def watched() -> Iterator[PeakMemory]:
    """Sample beside the block until it ends."""
    peak, ended = PeakMemory(), threading.Event()

    def follow() -> None:
        while not ended.wait(SECONDS_BETWEEN_SAMPLES):
            peak.sample()

    follower = threading.Thread(target=follow, name="peak-memory", daemon=True)
    follower.start()
    try:
        yield peak
    finally:
        ended.set()
        follower.join()
