"""Descriptions small enough to read, for the tests of addresses and runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from foundations.address import MAIN, Desc, Location
from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.run import Manifest, Run
from foundations.step import Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Cooking(Hparams):
    dish: str = hparam("soup", elided=ALWAYS_WRITTEN)
    heat: float = hparam(0.5, at_least=0)
    until: str = hparam("2ep", step=True)


@dataclass(frozen=True, kw_only=True)
class Meal(Desc):
    kind: ClassVar[str] = "train"
    cooking: Cooking = field(default_factory=Cooking)

    @property
    def iterations_per_epoch(self) -> int:
        return 5

    def location(self, replicate: int) -> Location:
        return Location(f"train_{self.digest}", replicate, MAIN)


@dataclass(frozen=True, kw_only=True)
class Leftovers(Desc):
    kind: ClassVar[str] = "warmed"
    parent: Meal
    cooking: Cooking = field(default_factory=Cooking)

    @property
    def iterations_per_epoch(self) -> int:
        return self.parent.iterations_per_epoch

    def location(self, replicate: int) -> Location:
        return Location(self.parent.location(replicate).trunk, replicate, f"branch_warmed_{self.digest}")


def step(iteration: int) -> Step:
    return Step(iteration, 5)


def state(value: float) -> dict[str, Tensor]:
    import torch

    return {"weight": torch.full((3, 2), value), "count": torch.tensor(7)}


def complete_run(root, desc: Desc | None = None) -> Run:
    """Return a run with two states, metrics and a manifest."""
    desc = desc or Meal()
    run = Run(root, desc.location(1))
    run.begin(desc)
    run.save_state(step(0), state(0.0))
    run.save_state(step(10), state(1.0))
    run.write("metrics.csv", b"name,iteration,value\n")
    run.log("done")
    run.finish(Manifest(files={}, results={"test_accuracy": 0.5}))
    return run
