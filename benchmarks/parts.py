"""Parts of measurements on one machine, each in a process of its own and within its time."""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import in_words, machine
from benchmarks.timing import Median, Row, seconds
from foundations.files import replacing
from platforms.platform import Platform
from training.context import Context

_SECONDS_LATE = 30.0
"""Seconds after its time at which a part's process is killed."""

Place = Callable[[], Context]
"""Makes the settings of jobs, in the process that needs them."""


@dataclass(frozen=True)
class Bench:
    """The place of the measurements."""

    context: Context
    until: float
    """The time at which the part must end, by `time.perf_counter`."""
    timed_seconds: float
    """The time that one measurement takes at least."""

    @property
    def device(self) -> torch.device:
        return self.context.platform.device

    def wait(self) -> None:
        """Wait until the device has done all work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def step_seconds(self, step: Callable[[], object], warm_up: int = 5, repeats: int = 5) -> Median:
        """Return the time of one step: the median over repeats, each of as many steps as a measurement takes."""
        for _ in range(warm_up):
            step()
        self.wait()
        steps = max(1, round(self.timed_seconds / max(1e-6, self.seconds(step))))

        def several() -> None:
            for _ in range(steps):
                step()

        return Median.of([self.seconds(several) / steps for _ in range(repeats)])

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds of some work on the device."""

        def done() -> None:
            work()
            self.wait()

        return seconds(done)

    def peak_mebibytes(self, work: Callable[[], object]) -> float:
        """Return the peak of the device's memory during some work; 0 on a CPU, where PyTorch does not count it."""
        if self.device.type != "cuda":
            work()
            return 0.0
        gc.collect()
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return float(torch.cuda.max_memory_allocated(self.device)) / 2**20


@dataclass(frozen=True)
class Item:
    """One of the measurements of a part."""

    name: str
    run: Callable[[], Iterator[Row]]


@dataclass(frozen=True)
class Part:
    """A part of the measurements."""

    run: Callable[[Bench], Iterator[Item]]
    share: float
    """Its share of the time."""

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def about(self) -> str:
        return str(self.run.__doc__)


def measure(parts: Sequence[Part], place: Place, whole: float, results: Path) -> int:
    """Measure the parts, one process after the other; return 1 if an item failed."""
    _ = place().platform.device  # raises here, before anything is measured, if there is no such device
    began, found = time.perf_counter(), Found(results)
    shares = sum(part.share for part in parts)
    for part in parts:
        left = began + whole - time.perf_counter()
        most = left * part.share / shares
        shares -= part.share
        print(f"\n{part.name}", flush=True)
        if left > 0:
            _measure_apart(part, place, most, whole, found)
        else:
            found.add("not_measured", {"item": part.name})
    print(f"\n{len(found.content['rows'])} rows are in {results}.")
    return int(bool(found.content["failed"]))


def _measure_apart(part: Part, place: Place, most: float, whole: float, found: Found) -> None:
    """Measure a part in a new process, and end that when the part's time is long over."""
    told, tells = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_measure_here, args=(part, place, most, time.time(), whole, tells)
    )
    process.start()
    tells.close()
    end = time.perf_counter() + most + _SECONDS_LATE
    with contextlib.suppress(EOFError):
        while told.poll(max(0.0, end - time.perf_counter())):
            found.add(*told.recv())
        process.kill()
    process.join()
    if process.exitcode:
        found.add("failed", {"item": part.name, "error": f"its process ended with code {process.exitcode}"})


class Found:
    """The results so far, and their file."""

    def __init__(self, path: Path) -> None:
        self._path, self._began, self._machine = path, time.perf_counter(), machine()
        self.content: dict[str, list[dict[str, Any]]] = {"rows": [], "failed": [], "not_measured": []}
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, kind: str, entry: dict[str, Any]) -> None:
        """Add an entry of a kind, print it, and write all."""
        self.content[kind].append(entry)
        words = {
            "failed": "{item} failed: {error}",
            "not_measured": "the time of {item} is used up; the rest of it is missing.",
        }
        print(in_words(entry) if kind == "rows" else words[kind].format(**entry), flush=True)
        took = round(time.perf_counter() - self._began, 1)
        with replacing(self._path) as path:
            path.write_text(json.dumps({**self._machine, "took_seconds": took, **self.content}, indent=1) + "\n")


def _measure_here(part: Part, place: Place, most: float, asked: float, whole: float, tells: Connection) -> None:
    """Measure a part in this process, and send its rows, failures and the end of its time as they come.

    asked: the time at which the process was asked for; the imports since then may take half of the part's time.
    """
    most = max(most / 2, most - (time.time() - asked))
    context = place()
    bench = Bench(context, time.perf_counter() + most, timed_seconds=min(0.25, whole / 1000))

    def measured(_: Platform) -> None:
        for item in part.run(bench):
            try:
                for row in item.run():
                    tells.send(("rows", row.to_json()))
            except Exception as error:  # the other items are measured all the same
                tells.send(("failed", {"item": item.name, "error": f"{type(error).__name__}: {error}"}))

    try:
        with _time_limit(most):
            context.platform.launch(measured)
    except TimeIsUp:
        tells.send(("not_measured", {"item": part.name}))


class TimeIsUp(BaseException):
    """A part has used up its time."""


@contextlib.contextmanager
def _time_limit(most: float) -> Iterator[None]:
    """Raise TimeIsUp inside the block after some seconds."""

    def stop(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, most))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
