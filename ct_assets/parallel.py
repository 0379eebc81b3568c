"""One way to spread independent work over processes.

Belongs here: an ordered, bounded parallel map. Workers share nothing, so results never depend on their
number; memory follows the few items under way, not the whole list.
"""

import ctypes
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from typing import TypeVar

from ct_assets import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_UNDER_WAY_PER_WORKER = 4
LARGEST_KEPT_BLOCK = 32 << 20
"""Bytes of a block up to which it stays with the process when it is freed; glibc allows no more."""
LARGEST_KEPT_REST = 64 << 20
"""Bytes of free memory at the end of the heap that the process keeps."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def default_workers() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def warm(workers: int, preload: tuple[str, ...]) -> None:
    """Start the server that workers are forked from, without waiting for it, so that its imports run beside
    what this process does before it needs them. The first `preload` of a process is the one that counts.
    """
    if workers > 1:
        _forking(preload)
        ensure_running()


@cache
def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of giving it back to the system, where that can be set (glibc).

    By default each temporary array of a slice is mapped, filled page by page with zeros, and unmapped: with values
    of some hundred kilobytes that took half the CPU time of burned-in screening.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK)
        set_option(_M_TRIM_THRESHOLD, LARGEST_KEPT_REST)


def map_ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    preload: tuple[str, ...] = (),
    initializer: Callable[..., None] | None = None,
    initargs: tuple = (),
) -> Generator[Result]:
    """Yield `function(item)` in the order of `items`; with one worker in this process, else in several.

    `function`, `initializer` and items must be picklable; `preload` names modules that the fork server
    imports once for all workers. An exception of a worker is raised here. Workers have ended when the iterator
    is exhausted, raises, or is closed: a caller that may fail between two results closes it.
    """
    if workers <= 1:
        _start(initializer, initargs)
        yield from map(function, items)
        return
    context = _forking(preload)
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(initializer, initargs)
    ) as pool:
        under_way: deque[Future[tuple[Result, float]]] = deque()
        try:
            for item in items:
                with _caller_left_alone(function):
                    under_way.append(pool.submit(_timed, function, item))
                if len(under_way) >= workers * ITEMS_UNDER_WAY_PER_WORKER:
                    yield _settle(under_way.popleft())
            while under_way:
                yield _settle(under_way.popleft())
        finally:
            for future in under_way:
                future.cancel()


def map_surviving(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    instead: Callable[[Item], Result],
    workers: int,
    preload: tuple[str, ...] = (),
) -> Iterator[Result]:
    """Do as `map_ordered`, and where an item takes its worker process down (a decoder of damaged pixels,
    memory), yield `instead(item)` for it and go on.

    With one worker everything runs in this process, which then shares an item's fate.
    """
    done = 0
    while done < len(items):
        try:
            for result in map_ordered(function, items[done:], workers=workers, preload=preload):
                yield result
                done += 1
        except BrokenProcessPool:
            # Whichever item it was: the next one gets a process to itself, and the others go on after it.
            yield _alone(function, items[done], instead)
            done += 1


def _alone(function: Callable[[Item], Result], item: Item, instead: Callable[[Item], Result]) -> Result:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as pool, _caller_left_alone(function):
        try:
            return _settle(pool.submit(_timed, function, item))
        except BrokenProcessPool:
            return instead(item)


def _start(initializer: Callable[..., None] | None, initargs: tuple) -> None:
    keep_freed_memory()
    if initializer is not None:
        initializer(*initargs)


def _forking(preload: tuple[str, ...]) -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ct_assets.parallel", *preload])
    return context


@contextmanager
def _caller_left_alone(function: Callable) -> Iterator[None]:
    """Keep a new worker from running the caller's script again, which a script without a guard cannot bear.

    `multiprocessing` does so to find what the script defines; the workers need that only for its functions.
    """
    main = sys.modules["__main__"]
    if getattr(function, "func", function).__module__ == "__main__":
        yield
        return
    path, spec = main.__dict__.pop("__file__", None), main.__spec__
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if path is not None:
            main.__file__ = path


def _timed(function: Callable[[Item], Result], item: Item) -> tuple[Result, float]:
    started = time.process_time()
    result = function(item)
    return result, time.process_time() - started


def _settle(future: "Future[tuple[Result, float]]") -> Result:
    result, cpu_s = future.result()
    progress.add_worker_cpu(cpu_s)
    return result
