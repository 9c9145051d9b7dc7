"""Commands that faults are put into."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = ("--default_hparams=digits_lenet_16", "--batch_size=256", "--training_steps=2it", "--checkpoint_seconds=0")
Command = tuple[str, ...]
"""Arguments, in which `{folder}` stands for where a job may have files beside its root."""


@dataclass(frozen=True)
class Job:
    """A command, and those that must have run before it."""

    command: Command
    before: tuple[Command, ...] = ()
    repeated: tuple[int, ...] = (0,)
    """Exit codes allowed when the command is repeated after it has finished."""
    has_datasets: bool = True
    """Whether the dataset is prepared already."""
    prepare: Callable[[Path], None] = lambda _folder: None
    """Puts files into the folder, or damages its files, after the commands before."""
    is_damaged: bool = False
    """Whether it finds damaged runs."""
    code: int = 0
    """The exit code of the undisturbed command."""
    then: tuple[Command, ...] = ()
    """Commands that run after it, before results are compared."""


def flip(path: Path, at: int = -1, bit: int = 0) -> None:
    """Flip a bit of a file, of its last byte by default."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def _images(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(5):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")


def _arrays(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    np.savez(folder / "arrays.npz", images=pixels, labels=np.arange(20) % 2)


def _damages(folder: Path) -> None:
    """Damage a parent's last state, and of a branch the mask, the report on it, and the description."""
    (training,) = (folder / "root").glob("train_*/replicate_1/main")
    (branch,) = (folder / "root").glob("train_*/replicate_1/branch_*")
    flip(training / "state_ep0_it2.safetensors")
    flip(branch / "mask.safetensors")
    (branch / "sparsity.json").write_bytes(b"")
    (branch / "description.json").write_text("{")


def _only_a_training(folder: Path) -> None:
    """Remove the branch, which is in the remote, too."""
    (branch,) = (folder / "root").glob("train_*/replicate_1/branch_*")
    shutil.rmtree(branch)


_TRAIN = ("train", *SMALL)
_BRANCH = ("branch", "train")
_RANDOM = ("--strategy=random", "--density=0.1")
_OFTEN = ("--mask_update_frequency=1it", "--mask_update_end=2it")
_ONESHOT = (*_BRANCH, "oneshot", *SMALL, "--strategy=snip1", "--density=0.1")
_EXPORT = ("export", "train_", "{folder}/ticket.safetensors")
_DENSE = ("export", "train_", "{folder}/weights.safetensors", "--dense")
_OPENLTH = ("export", "train_", "{folder}/openlth", "--openlth")
_SWEEP = ("sweep", "--grid=strategy=random,snip1", "--retry=failed")
_ONESHOTS = (*_BRANCH, "oneshot", *SMALL, "--density=0.5")
_RM = ("rm", "train_", "--force")
_ADD = ("datasets", "add", "mine")
_PUSH, _PULL = ("push", "file://{folder}/remote"), ("pull", "file://{folder}/remote")
_REWIND = (*_BRANCH, "lottery_rewind", *SMALL, "--rewind_step=1it", "--density=0.5")
_SHARED = "{folder}/shared.tar"
_SHARE = ("share", _SHARED, "branch_oneshot", "--states=last")
JOBS = {
    "train": Job(_TRAIN),
    "oneshot": Job(_ONESHOT, (_TRAIN,)),
    "replay": Job(_REWIND, (_TRAIN,)),
    "reinitialize": Job((*_BRANCH, "reinitialize", *SMALL, "--density=0.5"), (_TRAIN,)),
    "randomize_layerwise": Job((*_BRANCH, "randomize_layerwise", *SMALL, "--density=0.5"), (_TRAIN,)),
    "lottery": Job(("lottery", *SMALL, "--levels=1")),
    "gmp": Job((*_TRAIN, "--technique=gmp", "--gmp_end=2it", "--gmp_frequency=1it", "--gmp_density=0.1")),
    "rigl": Job((*_BRANCH, "oneshot", *SMALL, *_RANDOM, "--technique=rigl", *_OFTEN)),
    "export": Job(_EXPORT, (_TRAIN,)),
    "export for OpenLTH": Job(_OPENLTH, (_TRAIN,)),
    "import": Job(("import", "{folder}/ticket.safetensors"), (_TRAIN, _EXPORT)),
    "import of weights": Job(("import", "{folder}/weights.safetensors", "--weights", *SMALL), (_TRAIN, _DENSE)),
    "import from OpenLTH": Job(("import", "{folder}/openlth", "--openlth", *SMALL), (_TRAIN, _OPENLTH)),
    "rm": Job(_RM, (_TRAIN,), (0, 2)),
    "rm with branches": Job((*_RM, "--with_branches"), (_TRAIN, _ONESHOT), (0, 2)),
    "push": Job(_PUSH, (_TRAIN, _ONESHOT)),
    "pull of all": Job(_PULL, (_TRAIN, _ONESHOT, _PUSH, (*_RM, "--with_branches"))),
    "share": Job(_SHARE, (_TRAIN, _ONESHOT)),
    "import of shared runs": Job(("import", _SHARED), (_TRAIN, _ONESHOT, _SHARE, (*_RM, "--with_branches"))),
    "prepare": Job(_TRAIN, has_datasets=False),
    "add images": Job((*_ADD, "{folder}/images"), (), (0, 2), prepare=_images),
    "add streamed images": Job((*_ADD, "{folder}/images", "--stream", "--image_size=8"), (), (0, 2), prepare=_images),
    "add arrays": Job((*_ADD, "{folder}/arrays.npz"), (), (0, 2), prepare=_arrays),
    "mend": Job(
        ("verify", "--mend"), (_TRAIN, _ONESHOT), prepare=_damages, is_damaged=True, then=(_TRAIN, _ONESHOT, _TRAIN)
    ),
    "gc": Job(("gc", "--budget=0", "--grace=0"), (_TRAIN, _ONESHOT), (1,), code=1, then=(_REWIND,)),
    "gc of packed runs": Job(
        ("gc", "--budget=0", "--grace=0"), (_TRAIN, _ONESHOT, ("pack",)), (1,), code=1, then=(_REWIND,)
    ),
    "pull": Job(_PULL, (_TRAIN, _ONESHOT, _PUSH), prepare=_only_a_training),
    "pack": Job(("pack",), (_TRAIN, _ONESHOT), then=(_REWIND,)),
    "unpack": Job(("unpack",), (_TRAIN, _ONESHOT, ("pack",)), then=(_REWIND,)),
    "unpack one": Job(("unpack", "train_"), (_TRAIN, _ONESHOT, ("pack",)), then=(_REWIND,)),
    "rm of a packed run": Job(_RM, (_TRAIN, ("pack",)), (0, 2)),
    "sweep": Job(("sweep", "--grid=replicate=1-2", "--jobs=1", "--retry=failed", "--", *_TRAIN)),
    "sweep of branches": Job((*_SWEEP, "--jobs=2", "--", *_ONESHOTS)),
    # Networks that take turns, so that the results equal those of runs alone.
    "sweep together": Job((*_SWEEP, "--jobs=1", "--together=2", "--", *_ONESHOTS, "--model_name=digits_resnet_8_2")),
}
