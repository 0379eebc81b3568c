"""Progress of long work: a bar on a terminal, plain lines elsewhere, log lines inside Dagster.

Domain code calls `track`; who shows it is decided by whoever called the domain code (`lines_to`).
Also here: `Timings`, the steps of a command with their wall and CPU seconds.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import orjson

from ct_assets import files

Advance = Callable[[int], None]
Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0
JSON_LINES = "CT_ASSETS_LOGS"
"""Environment variable: with the value "json" lines outside Dagster are JSON objects, for a log collector."""

_line_sink: ContextVar[Callable[[str], None] | None] = ContextVar("line_sink", default=None)
_shows_here_too: ContextVar[bool] = ContextVar("shows_here_too", default=True)
_worker_cpu_s = 0.0


@contextmanager
def lines_to(sink: Callable[[str], None], *, here_too: bool = False) -> Iterator[None]:
    """Send the progress of everything inside the block to `sink` as plain lines (a Dagster logger, say).

    With `here_too` whoever sits at this process's terminal sees it as well.
    """
    sink_token, here_token = _line_sink.set(sink), _shows_here_too.set(here_too)
    try:
        yield
    finally:
        _line_sink.reset(sink_token)
        _shows_here_too.reset(here_token)


@contextmanager
def track(label: str, total: int) -> Iterator[Advance]:
    """Show work of `total` items; the block calls the yielded function with the number of items done."""
    with ExitStack() as shown:
        followers = []
        if sink := _line_sink.get():
            followers.append(_lines(label, total, sink))
        if _shows_here_too.get():
            here = (
                _bar(label, total) if sys.stderr.isatty() else nullcontext(_lines(label, total, _to_stderr))
            )
            followers.append(shown.enter_context(here))

        def advance(count: int) -> None:
            for follower in followers:
                follower(count)

        yield advance


def each(label: str, items: Iterable[Item], total: int, *, least: int) -> Iterator[Item]:
    """Yield the items, and show how far it is where there are `least` of them or more."""
    if total < least:
        yield from items
        return
    step = max(total // 1000, 1)
    with track(label, total) as advance:
        done = 0
        for done, item in enumerate(items, start=1):
            yield item
            if done % step == 0:
                advance(step)
        if done % step:
            advance(done % step)


def say(line: str) -> None:
    """Tell one line to whoever follows the progress."""
    if sink := _line_sink.get():
        sink(line)
    if _shows_here_too.get():
        _to_stderr(line)


def add_worker_cpu(seconds: float) -> None:
    """Count CPU seconds that a worker process spent for this one (they are nobody's children here)."""
    global _worker_cpu_s
    _worker_cpu_s += seconds


@dataclass
class Timings:
    """Wall and CPU seconds of each step, in the shape of `timings.json`."""

    steps: list[dict[str, object]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator["Step"]:
        """Time a block; the block sets `items` of the yielded step."""
        step = Step()
        wall, cpu = time.perf_counter(), _cpu_s()
        yield step
        self.steps.append(
            {
                "step": name,
                "wall_s": round(time.perf_counter() - wall, 4),
                "cpu_s": round(_cpu_s() - cpu, 4),
                "items": step.items,
            }
        )

    def write(self, folder: Path) -> None:
        """Write `timings.json` into `folder`."""
        files.write_json(folder / "timings.json", self.steps)


@dataclass
class Step:
    """What a timed block tells about itself."""

    items: int = 0


def _cpu_s() -> float:
    return time.process_time() + _worker_cpu_s


def _to_stderr(line: str) -> None:
    if os.environ.get(JSON_LINES) == "json":
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = orjson.dumps({"at": at, "level": "info", "message": line}).decode()
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(label, total=total)
        yield lambda count: shown.advance(task, count)


def _lines(label: str, total: int, sink: Callable[[str], None]) -> Advance:
    done = 0
    last = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if done >= total or now - last >= SECONDS_BETWEEN_LINES:
            last = now
            sink(f"{label}: {done}/{total}")

    return advance
