"""Small branches on digits, and the counts and comparisons of their tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from branches.kinds import load_ref
from branches.registry import BRANCHES
from foundations.description.desc import Desc, RunRef
from foundations.storage.run import Run
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from tests.training.small_runs import train_desc
from training.context import Context
from training.jobs.compute import Outcome, complete


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


def describe(name: str, parent: RunRef | None = None, **flags: Any) -> Any:
    """Return the description of a branch by its name and flags, of the small training or of another parent."""
    found = BRANCHES.find(name)
    known = {*found.flags.names(), *PruningHparams.group_for(flags).names()}
    assert set(flags) <= known, f"{name} does not take {set(flags) - known}"
    return found.describe(parent or RunRef(train_desc()), PruningHparams.of(flags), found.flags.of(flags))


def ref_of(run: Run) -> RunRef:
    """Return a run as a run of the same replicate names it."""
    return load_ref(run, run.location.replicate)


def branch(context: Context, name: str, parent: Run | None = None, **flags: Any) -> Outcome:
    """Compute a branch of the small training, or of another run."""
    desc: Desc = describe(name, None if parent is None else ref_of(parent), **flags)
    return complete(desc, context)


def mask_of(run: Run) -> Mask:
    """Return the mask that a run keeps."""
    return Mask.from_tensors(*run.load_mask())
