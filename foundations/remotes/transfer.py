"""Many requests at once, the outcome of a push or pull, and the runs that some runs depend on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from foundations.description.address import Location
from foundations.remotes.storage import REQUESTS_AT_ONCE
from foundations.reporter import Reporter
from foundations.storage.run import STATE

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Transferred:
    """The outcome of a push or pull."""

    sent: list[Location] = field(default_factory=list)
    """The runs that were sent or received now."""
    present: list[Location] = field(default_factory=list)
    """The runs that were there already."""
    others: int = 0
    """Number of further files: results of measures, datasets."""
    problems: list[str] = field(default_factory=list)
    """Sentences about what could not be sent or received."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what stays behind, without being an error."""
    size: int = 0
    """Bytes that were sent or received."""


def at_once(
    work: Callable[[Item], Result], items: Iterable[Item], reporter: Reporter, what: str, unit: str = "runs"
) -> Iterator[tuple[Item, Result]]:
    """Call a function with each item, in threads, and yield the results as they come. The first error ends all."""
    waiting, answers = list(items)[::-1], SimpleQueue[tuple[Item, Result | None, BaseException | None]]()
    total = len(waiting)

    def serve() -> None:
        while True:
            try:
                item = waiting.pop()
            except IndexError:
                return
            try:
                answers.put((item, work(item), None))
            except BaseException as error:
                answers.put((item, None, error))

    # Daemons: after a signal, the process does not wait for answers of a service.
    for _ in range(min(total, REQUESTS_AT_ONCE)):
        threading.Thread(target=serve, daemon=True).start()
    try:
        for done in range(1, total + 1):
            item, result, error = answers.get()
            if error is not None:
                raise error
            yield item, cast("Result", result)
            reporter.progress(what, done, total, unit)
    finally:
        waiting.clear()


@dataclass(frozen=True)
class Source:
    """A run that another depends on, and what of it."""

    location: Location
    iteration: int | None
    """Of the state that it needs; None where it needs the mask alone."""


def sources_in(record: Mapping[str, Any], replicate: int) -> list[Source]:
    """Return the runs that a stored description names as its sources. replicate: of the described run."""
    found = []
    for source in record.get("sources", {}).values():
        location = Location.of(source["training"], source.get("replicate", replicate), source["name"])
        iteration = source.get("iteration")
        found.append(Source(location, iteration if type(iteration) is int else None))
    return found


def needed_files(names: Iterable[str], iterations_per_epoch: int, iterations: set[int]) -> list[str]:
    """Return the files of a run without the states at other iterations than these."""
    found = []
    for name in names:
        state = STATE.fullmatch(name)
        with suppress(ValueError):  # thousands of digits are not an iteration of any run
            if state is None or int(state[1]) * iterations_per_epoch + int(state[2]) in iterations:
                found.append(name)
    return found
