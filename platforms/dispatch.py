"""Dispatch of a plan: each run becomes a job of an executor once the runs that it depends on are complete.

The runs' directories are the only record of finished work. So a dispatch may be killed and repeated, and several
may work through the same runs at once: if another process works on a run, the dispatch does other work first.
"""

from __future__ import annotations

import enum
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from foundations.errors import Busy, DamagedError
from foundations.plan import Plan, PlannedRun
from foundations.storage.locks import is_held
from foundations.storage.run import CHECKPOINT
from platforms.executors.executor import CommandJob, Ended, Executor

_TICK_SECONDS = 0.5
_LOOK_SECONDS = 1.0
_FRUITLESS_ATTEMPTS = 3
_ORDINARY_FAILURES = range(1, 128)
"""Exit codes of commands that failed by themselves; others were killed."""


class State(enum.Enum):
    """State of a run in a dispatch."""

    WAITING = "waiting"
    """Waits for the runs that it depends on, or for a free slot."""
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    """Another process works on it."""
    DONE = "done"
    FAILED = "failed"


@dataclass(eq=False)
class Item:
    """A run of a dispatch that has something to compute."""

    planned: PlannedRun
    state: State = State.WAITING
    sources: list[Item] = field(default_factory=list)
    """The runs of the dispatch that it depends on."""
    users: list[Item] = field(default_factory=list)
    """The runs that depend on it."""
    reason: str = ""
    """The reason for its failure."""
    since: float = 0.0
    """Time of submission, in seconds of the monotonic clock."""
    attempts: int = 0
    """Number of times that it was killed without progress."""
    checkpointed: float = 0.0
    """Time at which the checkpoint of its last submission was written."""
    computed: bool = False
    """Whether a job of this dispatch completed it."""
    job: str = ""
    """The name of the job that it was last submitted with."""
    is_alone: bool = False
    """Whether it gets a job of its own, because a job of several runs did not complete it."""

    @property
    def name(self) -> str:
        """The run's location."""
        return str(self.planned.run)


class Wish(enum.Enum):
    """A request to a running dispatch."""

    GO_ON = enum.auto()
    STOP = enum.auto()
    """Its jobs write checkpoints and end, then it ends."""
    LEAVE = enum.auto()
    """It ends, and its jobs go on."""


class Observer(Protocol):
    """Receives the events of a dispatch."""

    def changed(self, item: Item) -> None:
        """Note that a run has started, ended or failed."""

    def tick(self, dispatch: Dispatch) -> None:
        """Note that some time has passed."""


class Dispatch:
    """Works through a plan with an executor."""

    def __init__(
        self,
        made: Plan,
        executor: Executor,
        job_of: Callable[[Sequence[PlannedRun], tuple[str, ...]], CommandJob],
        observer: Observer,
        *,
        together: int = 1,
        retry_failed: bool = False,
        wish: Callable[[], Wish] = lambda: Wish.GO_ON,
    ) -> None:
        """Take a plan and the executor of its jobs.

        job_of: makes the job of one or several runs, given the names of the jobs that it depends on.
        together: the maximum number of runs in a job, if they can be trained together. retry_failed: whether to start
        runs again that failed before. wish: returns the user's request; called from time to time.
        """
        self._executor, self._job_of, self._observer = executor, job_of, observer
        self._together, self._retry_failed, self._ask = together, retry_failed, wish
        self.items = {id(planned): Item(planned) for planned in made.to_do()}
        self._jobs: dict[str, list[Item]] = {}
        self._ready: deque[Item] = deque()
        self._looked = 0.0
        self.wish = Wish.GO_ON
        for item in self.items.values():
            item.sources = [self.items[id(each)] for each in item.planned.sources if id(each) in self.items]
            for source in item.sources:
                source.users.append(item)

    def in_state(self, *states: State) -> list[Item]:
        """Return the runs that are in some states, in the order of the plan."""
        return [item for item in self.items.values() if item.state in states]

    def queued(self) -> list[Item]:
        """Return the runs that count as running but whose jobs still wait in the executor's queue."""
        names = self._executor.queued()
        return [item for item in self.in_state(State.RUNNING) if item.job in names]

    def run(self) -> bool:
        """Work until every run is done or has failed, or until a request to stop; return whether all are done."""
        if not self._retry_failed:
            for item in self.items.values():
                failure = item.planned.run.failure()
                if failure is not None:
                    self._fail(item, f"it failed before: {failure.get('reason', '')}", is_news=False)
        self._ready.extend(self.items.values())
        while self._is_unfinished():
            if self.wish is Wish.GO_ON:
                self.wish = self._ask()
                if self.wish is Wish.LEAVE:
                    break
                if self.wish is Wish.STOP:
                    self._executor.stop()
                else:
                    self._submit_ready()
            for ended in self._executor.ended(_TICK_SECONDS):
                items = self._jobs.pop(ended.name)
                for item in items:
                    self._settle(item, ended, is_alone=len(items) == 1)
            self._look_elsewhere()
            self._observer.tick(self)
        return all(item.state is State.DONE for item in self.items.values())

    def _is_unfinished(self) -> bool:
        is_stopping = self.wish is not Wish.GO_ON
        open_states = {State.RUNNING} if is_stopping else {State.WAITING, State.RUNNING, State.ELSEWHERE}
        return any(item.state in open_states for item in self.items.values())

    def _may_start(self, item: Item) -> bool:
        """Return whether a run can be submitted: its dependencies are done, or the executor waits for them."""
        enough = {State.DONE, State.RUNNING} if self._executor.takes_waiting_jobs else {State.DONE}
        return item.state is State.WAITING and all(source.state in enough for source in item.sources)

    def _submit_ready(self) -> None:
        while self._ready and self._executor.has_room():
            first = self._ready.popleft()
            if not self._is_free(first):
                continue
            items = [first, *self._companions(first)]
            sources = {id(each): each for item in items for each in item.sources}
            after = sorted({each.job for each in sources.values() if each.state is State.RUNNING})
            for item in items:
                run = item.planned.run
                run.clear_failure()
                checkpoint = run.path(CHECKPOINT)
                item.checkpointed = checkpoint.stat().st_mtime if checkpoint.exists() else 0.0
                item.state, item.since, item.job = State.RUNNING, time.monotonic(), first.name
            self._jobs[first.name] = items
            self._executor.submit(self._job_of([item.planned for item in items], tuple(after)))
            for item in items:
                self._observer.changed(item)

    def _is_free(self, item: Item) -> bool:
        """Return whether a run can be submitted. If another process works on it, note that."""
        if not self._may_start(item):
            return False  # it comes back when its last dependency is done
        if is_held(item.planned.run.lock_path):
            item.state = State.ELSEWHERE
            self._observer.changed(item)
            return False
        return True

    def _companions(self, first: Item) -> list[Item]:
        """Take from the ready runs those to train together with one of them."""
        key = first.planned.together_key
        if self._together == 1 or first.is_alone or key is None:
            return []
        found: list[Item] = []
        for item in list(self._ready):
            if len(found) + 1 == self._together:
                break
            if item.is_alone or item.planned.together_key != key or item is first or item.state is not State.WAITING:
                continue
            # If the executor takes jobs that wait for others, the dependencies of this run may be in the same job.
            if any(source is each for source in item.sources for each in (first, *found)):
                continue
            if self._is_free(item):
                self._ready.remove(item)
                found.append(item)
        return found

    def _settle(self, item: Item, ended: Ended, *, is_alone: bool) -> None:
        """Update a run after its job has ended, from the files in the run's directory.

        is_alone: whether the job was of this run alone.
        """
        code = ended.exit_code
        if self._is_settled(item, is_ours=True):
            return
        if lost := self._failed_source(item):
            self._fail(item, f"{lost}, on which it depends, failed", is_news=False)
        elif code == Busy.exit_code:
            item.state = State.ELSEWHERE
            self._observer.changed(item)
        elif self.wish is not Wish.GO_ON:
            item.state = State.WAITING
        elif not is_alone:
            item.state, item.is_alone = State.WAITING, True  # alone, it will show whether it caused the failure
            self._ready.append(item)
        elif code in _ORDINARY_FAILURES:
            self._fail(item, ended.reason or _last_words(item), exit_code=code)
        else:
            self._try_again(item, ended)

    def _try_again(self, item: Item, ended: Ended) -> None:
        checkpoint = item.planned.run.path(CHECKPOINT)
        got_further = checkpoint.exists() and checkpoint.stat().st_mtime > item.checkpointed
        item.attempts = 0 if got_further else item.attempts + 1
        if item.attempts >= _FRUITLESS_ATTEMPTS:
            how = ended.reason or _how_killed(ended.exit_code)
            self._fail(item, f"{how}, {item.attempts} times without getting any further", exit_code=ended.exit_code)
            return
        item.state = State.WAITING
        self._ready.append(item)

    def _is_settled(self, item: Item, *, is_ours: bool = False) -> bool:
        """Read a run's directory, and return whether the run is done, or has failed because a file is damaged.

        is_ours: whether a job of this dispatch computed it.
        """
        try:
            item.planned.refresh()
        except DamagedError as error:
            self._fail(item, str(error))
            return True
        if not item.planned.is_done:
            return False
        item.state, item.computed = State.DONE, is_ours
        self._observer.changed(item)
        self._ready.extend(user for user in item.users if self._may_start(user))
        return True

    def _fail(self, item: Item, reason: str, *, exit_code: int | None = None, is_news: bool = True) -> None:
        """Mark a run and its dependents as failed. is_news: whether to write the failure into the run's directory."""
        item.state, item.reason = State.FAILED, reason
        if is_news:
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            facts = {"reason": reason, "exit_code": exit_code, "host": socket.gethostname(), "when": when}
            item.planned.run.save_failure(facts)
        self._observer.changed(item)
        for user in item.users:
            if user.state in (State.WAITING, State.ELSEWHERE):
                self._fail(user, f"{item.name}, on which it depends, failed", is_news=False)

    def _failed_source(self, item: Item) -> str:
        return next((each.name for each in item.sources if each.state is State.FAILED), "")

    def _look_elsewhere(self) -> None:
        """Update the runs that other processes work on."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        for item in self.in_state(State.ELSEWHERE):
            if is_held(item.planned.run.lock_path) or self._is_settled(item):
                continue
            if (failure := item.planned.run.failure()) is not None:
                self._fail(item, str(failure.get("reason", "")), is_news=False)
            else:
                item.state = State.WAITING
                self._ready.append(item)


def _last_words(item: Item) -> str:
    """Return the error message of a failed command, from its output."""
    path = item.planned.run.output_path
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    starts = [number for number, line in enumerate(lines) if line.startswith("open_prune: ")]
    said: Iterable[str] = lines[starts[-1] :] if starts else lines[-1:]
    return " ".join(said).removeprefix("open_prune: ") or "it ended without a word"


def _how_killed(exit_code: int) -> str:
    number = -exit_code if exit_code < 0 else exit_code - 128
    try:
        return f"it was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"it ended with exit code {exit_code}"
