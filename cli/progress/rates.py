"""How fast this machine trains and scores: timed once by `--dry_run` in a process of its own, and kept for later.

What was timed is kept in a file of the user's cache folder, by machine, device, threads and what was timed.
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
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from foundations.description.address import digest
from foundations.files import read_file, write_atomically
from platforms.platform import PlatformHparams
from pruning.hparams import PruningHparams
from training.desc import TrainDesc

if TYPE_CHECKING:
    from foundations.environment import Environment

LONGEST = 10.0
"""Seconds that all timing of a command takes at most, once torch is imported."""
_IMPORT = 20.0
"""Seconds that importing torch takes at most."""
_FILE = "rates.json"
Case = tuple[TrainDesc, PruningHparams | None]
"""What is timed: a training, or how the network of a training is pruned."""
Seconds = Mapping[str, float]
_LEVEL = {"prune_fraction": 0.5, "density": None, "compression": None}


@functools.lru_cache(maxsize=4096)
def scoring_case(desc: TrainDesc, pruning: PruningHparams) -> Case:
    """Return how a network is scored, whatever its level: that hardly matters for the time."""
    return desc, pruning.replaced(_LEVEL).simplified()


@dataclass
class Rates:
    """Seconds of the parts of runs on this machine, as they were timed."""

    platform: PlatformHparams
    threads: int
    folder: Path | None = None
    """Where they are kept; None to keep and to time nothing."""
    is_here: bool = False
    """Whether the jobs run on this machine alone, each in one process."""
    took: float = 0.0
    """Seconds that timing took just now."""
    timed: int = 0
    """How many cases were timed just now."""
    _found: dict[str, Seconds] = field(default_factory=dict)
    _keys: dict[Case, str] = field(default_factory=dict)

    @classmethod
    def of(cls, platform: PlatformHparams, threads: int | None, environment: Environment) -> Rates:
        """Return what was timed before. threads: of a job on this machine; None where jobs run elsewhere."""
        is_here = threads is not None and platform.platform == PlatformHparams.platform
        folder = environment.cache if is_here else None
        rates = cls(platform, platform.threads or threads or 1, folder, is_here=is_here)
        if rates.folder is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                kept = json.loads(read_file(rates.folder / _FILE))
                rates._found = {key: entry for key, entry in kept.items() if _is_seconds(entry)}
        return rates

    def get(self, desc: TrainDesc, pruning: PruningHparams | None = None) -> Seconds | None:
        """Return the seconds that were timed of a training, or of a pruning of its network; None where none were."""
        return self._found.get(self._key((desc, pruning)))

    def time(self, cases: Iterable[Case]) -> None:
        """Time what was not timed yet, the first case first, for at most `LONGEST` seconds, and keep the results."""
        if self.folder is None:
            return
        missing = {key: case for case in cases if (key := self._key(case)) not in self._found}
        if not missing:
            return
        began = time.monotonic()
        self._found |= (
            found := _timed(list(missing.items()), dataclasses.replace(self.platform, threads=self.threads))
        )
        self.took, self.timed = time.monotonic() - began, len(found)
        if found:
            with contextlib.suppress(OSError):  # they are timed again
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self.folder / _FILE, json.dumps(self._found, indent=1).encode())

    def _key(self, case: Case) -> str:
        """Return what the seconds of a case are kept by. Much of a description, such as its length, does not matter."""
        if case not in self._keys:
            desc, pruning = case
            timed = {
                "where": [machine.node(), self.platform.device, self.threads],
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
    """Return the seconds of each case that was timed in time, by key, as a child measured them.

    A child, so that this process needs no torch, and so that a slow case can be ended at any time.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(theirs, cases, platform), daemon=True)
    found: dict[str, Seconds] = {}
    deadline = time.monotonic() + _IMPORT
    child.start()
    theirs.close()
    try:
        while ours.poll(max(0.0, deadline - time.monotonic())):
            key, seconds = ours.recv()
            if key:
                found[key] = seconds
            else:  # it has imported torch, and begins
                deadline = time.monotonic() + LONGEST
    except EOFError:  # it has timed all
        pass
    finally:
        child.kill()
        child.join()
        ours.close()
    return found


def _work(channel: Connection, cases: Sequence[tuple[str, Case]], platform: PlatformHparams) -> None:
    """In the child: time one case after the other. One that cannot be timed is left to the job, which says why."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, _IMPORT + LONGEST)  # ends it also where its parent was killed
    with contextlib.suppress(Exception):
        from platforms.platform import make_platform
        from training.jobs.timing import time_scoring, time_training

        channel.send(("", {}))
        for key, (desc, pruning) in cases:
            work = partial(time_training, desc) if pruning is None else partial(time_scoring, desc, pruning)
            try:
                seconds = make_platform(platform).launch(work)
            except Exception:
                continue
            channel.send((key, seconds))
    channel.close()
    os._exit(0)
