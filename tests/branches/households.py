"""Small branches on digits, and what is counted and compared of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from branches.lineage import Parent, job_of, parent_of
from branches.named import BRANCHES
from foundations.address import Desc
from foundations.run import Run
from pruning.hparams import PruningHparams
from tests.training.worlds import train_job
from training.completion import complete
from training.context import Context
from training.job import Outcome


@dataclass
class Counter:
    """A reporter that counts the training iterations that are really done, replayed ones too."""

    iterations: int = 0
    said: list[str] = field(default_factory=list)
    _last: int = -2

    def say(self, line: str) -> None:
        self.said.append(line)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        if what in ("train", "replay"):
            self.iterations += done == self._last + 1
            self._last = done


def describe(name: str, parent: Parent | None = None, **flags: Any) -> Desc:
    """Return the description of a branch by its name and flags, of the small training or of another parent."""
    named = BRANCHES[name]
    own = named.flags(**{flag: value for flag, value in flags.items() if flag in named.flags.names()})
    pruning = PruningHparams.of(flags)
    return named.describe(parent or Parent(train_job().desc), pruning, own)


def branch(context: Context, name: str, parent: Run | None = None, **flags: Any) -> Outcome:
    """Compute a branch of the small training, or of another run."""
    desc = describe(name, None if parent is None else parent_of(parent), **flags)
    return complete(job_of(desc), context)
