"""Descriptions small enough to read and their runs, for the tests of addresses, runs and plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from foundations.description.address import MAIN, Location
from foundations.description.desc import Desc, MaskOf, RunRef, StateOf
from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.description.step import Step
from foundations.storage import tensor_files
from foundations.storage.manifest import FileRecord, Manifest
from foundations.storage.run import Run

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ToyHparams(Hparams):
    name: str = hparam("sgd", elided=ALWAYS_WRITTEN)
    rate: float = hparam(0.5, at_least=0)
    length: str = hparam("2ep", step=True)


class _Toy(Desc):
    """Two epochs of five iterations."""

    iterations_per_epoch = 5
    dataset_name = "digits"
    start = Step(0, 5)
    end = Step(10, 5)


@dataclass(frozen=True, kw_only=True)
class ToyDesc(_Toy):
    kind: ClassVar[str] = "train"
    training: ToyHparams = field(default_factory=ToyHparams)

    @property
    def main(self) -> ToyDesc:
        return self

    def location(self, replicate: int) -> Location:
        return Location(f"train_{self.digest}", replicate, MAIN)


@dataclass(frozen=True, kw_only=True)
class ToyBranch(_Toy):
    kind: ClassVar[str] = "toy"
    main: ToyDesc
    training: ToyHparams = field(default_factory=ToyHparams)
    mask: MaskOf | None = None
    state: StateOf | None = None
    other: StateOf | None = None

    @property
    def mask_step(self) -> Step:
        return self.start

    def location(self, replicate: int) -> Location:
        return Location(self.main.location(replicate).training, replicate, f"branch_toy_{self.digest}")


def toy(rate: float = 0.5) -> ToyDesc:
    return ToyDesc(training=ToyHparams(rate=rate))


def state_of(desc: Desc, iteration: int, replicate: int | None = None) -> StateOf:
    return StateOf(RunRef(desc, replicate), step(iteration))


def step(iteration: int) -> Step:
    return Step(iteration, 5)


def state(value: float) -> dict[str, Tensor]:
    import torch

    return {"weight": torch.full((3, 2), value), "count": torch.tensor(7)}


def complete_run(root: Path, desc: Desc | None = None, replicate: int = 1, last: float = 1.0) -> Run:
    """Return a run with two states, metrics and a manifest. last: the values of the last state."""
    desc = desc or ToyDesc()
    run = Run(root, desc.location(replicate))
    run.create(desc)
    run.save_state(step(0), state(0.0))
    run.save_state(step(10), state(last))
    run.write("metrics.csv", b"name,iteration,value\n")
    run.log("done")
    run.finish(Manifest(files={}, results={"test_accuracy": 0.5}))
    return run


def rewrite(run: Run, name: str, data: bytes) -> None:
    """Replace a file of a complete run, in its manifest as well."""
    run.path(name).write_bytes(data)
    run.amended(files={name: FileRecord.of(run.path(name))})


def rewrite_state(run: Run, at: Step, tensors: Mapping[str, Tensor]) -> None:
    name = run.state_name(at)
    rewrite(run, name, tensor_files.to_bytes(tensors, owner=f"{run}/{name}"))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def bytes_under(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
