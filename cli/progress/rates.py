"""Timings of training and scoring on this machine, measured by `--dry_run` in a child process and cached for a day.

The cache is a file in the user's cache folder, with a key of machine, device, threads and the timed case.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import multiprocessing
import os
import platform as machine
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from foundations.description.address import digest
from foundations.files import read_file, write_atomically
from platforms.platform import PlatformHparams
from pruning.hparams import PruningHparams
from pruning.level import LEVELS
from pruning.structure.structure import SKIP
from training.desc import TrainDesc

if TYPE_CHECKING:
    from foundations.environment import Environment

LONGEST = 20.0
"""The most seconds of processor time for timing in a command, once torch is imported, for each thread."""
_LONGEST_CASE = 10.0
"""The most seconds of processor time for one case, for each thread."""
_PATIENCE = 3
"""The factor from these to the most seconds that pass: other processes may keep the processors busy."""
_LOOK_EVERY = 0.05
"""The seconds between two looks at the processor time of a case."""
_IMPORT = 20.0
"""The most seconds of processor time for importing torch."""
_FILE = "rates.json"
_DAY = 24 * 60 * 60.0
"""The age in seconds at which a timing is measured again: the machine may have been busy, or PyTorch is a new one."""
_TIMED_AT = "timed_at"
"""The time of a timing, in seconds since the epoch, beside its seconds."""
Case = tuple[TrainDesc, PruningHparams | None]
"""A case to time: a training, or the pruning of its network."""
Seconds = Mapping[str, float]
_LEVEL = {**dict.fromkeys((*LEVELS, "structure")), "prune_fraction": 0.5, "structure_uneven": SKIP}
_EFFECTIVE_LEVEL = {"effective_density": 0.5}


@functools.lru_cache(maxsize=4096)
def scoring_case(desc: TrainDesc, pruning: PruningHparams) -> Case:
    """Return the case of scoring a network, the same for every level: the level hardly affects the time."""
    level = _LEVEL if pruning.effective_density is None else _EFFECTIVE_LEVEL
    return desc, pruning.replaced(level).simplified()


class Rates:
    """The timed seconds of the parts of runs on this machine, from the cache and measured.

    took, timed: the seconds that the last timing took, and the number of its cases.
    """

    took = 0.0
    timed = 0

    def __init__(self, platform: PlatformHparams, threads: int | None, environment: Environment) -> None:
        """Read the cached timings. threads: of a job on this machine; None where jobs run elsewhere."""
        self.is_here = threads is not None and platform.platform == PlatformHparams.platform
        self._platform = dataclasses.replace(platform, threads=platform.threads or threads or 1)
        self._file = environment.cache / _FILE if self.is_here and environment.cache else None
        self._found: dict[str, Seconds] = {}
        self._keys: dict[Case, str] = {}
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                kept = json.loads(read_file(self._file))
                self._found = {key: entry for key, entry in kept.items() if _is_seconds(entry)}

    def get(self, desc: TrainDesc, pruning: PruningHparams | None = None) -> Seconds | None:
        """Return the timed seconds of a training, or of a pruning of its network; None if they are not known."""
        found = self._found.get(self._key((desc, pruning)), {})
        return found if found.keys() > {_TIMED_AT} else None

    def time(self, cases: Iterable[Case]) -> None:
        """Time cases without a timing, then those of an old one, for at most `LONGEST` seconds, and cache them.

        A case that took too long is cached without seconds, so that it is not tried again on the same day. Cases that
        are not reached are timed by the next command.
        """
        keyed, now = {self._key(case): case for case in cases}, time.time()
        ages = {key: now - self._found.get(key, {}).get(_TIMED_AT, -math.inf) for key in keyed}
        stale = [key for key in keyed if not 0 <= ages[key] < _DAY]
        stale.sort(key=lambda key: key in self._found)
        if self._file is None or not stale:
            return
        began = time.monotonic()
        found = _timed([(key, keyed[key]) for key in stale], self._platform)
        self._found |= {key: {**seconds, _TIMED_AT: now} for key, seconds in found.items()}
        self.took, self.timed = time.monotonic() - began, sum(map(bool, found.values()))
        if found:
            with contextlib.suppress(OSError):  # they are timed again
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._file, json.dumps(self._found, indent=1).encode())

    def _key(self, case: Case) -> str:
        """Return the cache key of a case. It omits parts of the description that do not matter, such as its length."""
        if case not in self._keys:
            desc, pruning = case
            timed = {
                "where": [machine.node(), self._platform.device, self._platform.threads],
                "model": desc.model.canonical(),
                "dataset": [desc.dataset.dataset_name, desc.dataset.input_shape, desc.dataset.batch_size],
                "training": [desc.training.precision, desc.training.optimizer_name],
                "pruning": None if pruning is None else pruning.canonical(),
            }
            self._keys[case] = digest("rate", timed)
        return self._keys[case]


def _is_seconds(entry: object) -> bool:
    return isinstance(entry, dict) and all(
        type(value) in (int, float) and math.isfinite(value) and value >= 0 for value in entry.values()
    )


def _timed(cases: Sequence[tuple[str, Case]], platform: PlatformHparams) -> dict[str, Seconds]:
    """Time cases in a child process; return the seconds of each case that it finished before the deadline, by key.

    They are empty for a case that took too long. A child, so that this process needs no torch, and so that a slow case
    can be ended at any time.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(theirs, cases, platform), daemon=True)
    found: dict[str, Seconds] = {}
    deadline = time.monotonic() + _PATIENCE * _IMPORT
    child.start()
    theirs.close()
    try:
        while ours.poll(max(0.0, deadline - time.monotonic())):
            key, seconds = ours.recv()
            if key:
                found[key] = seconds
            else:  # it has imported torch, and begins
                deadline = time.monotonic() + _PATIENCE * LONGEST
    except EOFError:  # it has timed all
        pass
    finally:
        child.kill()
        child.join()
        ours.close()
    return found


def _work(channel: Connection, cases: Sequence[tuple[str, Case]], platform: PlatformHparams) -> None:
    """In the child: time one case after the other. Skip a case that fails: its job will report the error."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    with contextlib.suppress(Exception):
        from platforms.platform import make_platform
        from training.jobs.timing import time_scoring, time_training

        channel.send(("", {}))
        threads = platform.threads or 1
        watch, end = _Watch(), time.process_time() + threads * LONGEST
        for key, (desc, pruning) in cases:
            work = partial(time_training, desc) if pruning is None else partial(time_scoring, desc, pruning)
            if time.process_time() >= end:
                break
            try:
                watch.end = min(end, time.process_time() + threads * _LONGEST_CASE)
                seconds = make_platform(platform).launch(work)
            except _TooLongError:
                if time.process_time() >= end:  # it may have been begun too late
                    break
                seconds = {}
            except Exception:
                continue
            finally:
                watch.end = math.inf
            channel.send((key, seconds))
    channel.close()
    os._exit(0)


class _TooLongError(BaseException):
    """A case takes too long; a base exception, as code that is timed may catch others."""


class _Watch:
    """Interrupts a case that takes too long, and ends this process where its parent was killed.

    The alarm is one of elapsed time: while an alarm of processor time is set, Linux counts that in ticks of 4 ms.

    end: the processor time at which the case takes too long.
    """

    end = math.inf

    def __init__(self) -> None:
        self._parent = os.getppid()
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_EVERY, _LOOK_EVERY)

    def _look(self, *_: object) -> None:
        if os.getppid() != self._parent:
            os._exit(1)
        if time.process_time() > self.end:
            self.end = math.inf
            raise _TooLongError
