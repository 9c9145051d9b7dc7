"""Valid seeds of inputs: runs of a few iterations, and files made from them."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cli.main import main
from foundations.storage.manifest import Manifest
from foundations.storage.run import CHECKPOINT, Run

TRAIN = (
    "train",
    "--default_hparams=digits_lenet_16",
    "--batch_size=256",
    "--training_steps=2it",
    "--device=cpu",
    "--quiet",
)
_FLAGS = TRAIN[1:]
ONESHOT = ("branch", "train", "oneshot", *_FLAGS, "--strategy=snip1", "--density=0.1")
REWIND = ("branch", "train", "lottery_rewind", *_FLAGS, "--rewind_step=1it", "--density=0.5")
_LISTINGS = (("strategies",), ("datasets",), ("techniques",), ("measures",), ("ls",))
MEASURE = ("measure", "layer_conservation")


@dataclass(frozen=True)
class Seeds:
    """The folders of the seeds."""

    folder: Path
    datasets: Path

    @property
    def root(self) -> Path:
        """A root with a training, two branches, and a measure of one."""
        return self.folder / "root"

    @property
    def cut_off(self) -> Path:
        """The same with a training and a branch that were stopped: with checkpoints, without manifests."""
        return self.folder / "cut_off"

    @property
    def ticket(self) -> Path:
        return self.folder / "ticket.safetensors"

    @property
    def dense(self) -> Path:
        """A state dict in safetensors."""
        return self.folder / "dense.safetensors"

    @property
    def openlth(self) -> Path:
        """A run as OpenLTH writes it."""
        return self.folder / "openlth"


def make_seeds(folder: Path, digits: Path) -> Seeds:
    """Compute them."""
    import open_prune  # noqa: F401 (what plug-ins import is imported once)

    seeds = Seeds(folder, digits)
    with _places(seeds.root, digits):
        for arguments in (TRAIN, ONESHOT, REWIND):
            _run(*arguments)
        (oneshot,) = [
            path for path in seeds.root.glob("train_*/*/branch_*") if (path / "state_ep0_it0.safetensors").exists()
        ]
        address = str(oneshot.relative_to(seeds.root))
        _run("export", address, str(seeds.ticket))
        _run("export", address, str(seeds.dense), "--dense")
        _run("export", address, str(seeds.openlth), "--openlth")
        _run(*MEASURE, address, "--device=cpu")
        _run("datasets", "add", "images", str(_images(folder)), f"--datasets_root={folder / 'datasets'}")
        # What commands import is imported once, before processes are forked, and matplotlib looks for fonts.
        for listing in (("plot", "curves", f"--out={folder / 'curves.svg'}"), *(_LISTINGS), ("train", "--help")):
            _run(*listing)
    (seeds.openlth / "logger").write_text("test_accuracy,0,0.5\ntest_loss,2,1.25\n")
    (seeds.openlth / "hparams.log").write_text(_HPARAMS)
    _cut_off(seeds)
    return seeds


def _images(folder: Path) -> Path:
    """Make images of each of two classes: their decoder is imported once."""
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for image in ("0.jpg", "1.png"):
            Image.new("RGB", (8, 8)).save(folder / "images" / name / image)
    return folder / "images"


_HPARAMS = """Dataset Hyperparameters
    * dataset_name => digits
    * batch_size => 256
Model Hyperparameters
    * model_name => digits_lenet_16
    * model_init => kaiming_normal
    * batchnorm_init => uniform
Training Hyperparameters
    * optimizer_name => sgd
    * lr => 0.1
    * training_steps => 2it
Pruning Hyperparameters
    * pruning_strategy => sparse_global
"""


def _cut_off(seeds: Seeds) -> None:
    """Make a root with runs that were stopped at their last step but one."""
    kept: dict[Path, bytes] = {}
    original, discard = Run.finish, seeds.folder / "discarded"

    def finish(self: Run, manifest: Manifest) -> None:
        kept.update({path: path.read_bytes() for path in self.folder.iterdir()})
        original(self, manifest)

    Run.finish = finish  # type: ignore[method-assign]
    try:
        with _places(discard, seeds.datasets):
            for arguments in (TRAIN, ONESHOT):
                _run(*arguments, "--checkpoint_seconds=0")
    finally:
        Run.finish = original  # type: ignore[method-assign]
    for path, content in kept.items():
        place = seeds.cut_off / path.relative_to(discard)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    shutil.rmtree(discard)
    assert len(list(seeds.cut_off.rglob(CHECKPOINT))) == 2


@contextlib.contextmanager
def _places(root: Path, datasets: Path):
    before = dict(os.environ)
    os.environ.update(environment(root, datasets))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def environment(root: Path, datasets: Path) -> dict[str, str]:
    """Return the variables that say where runs and datasets are."""
    return {
        "OPEN_PRUNE_ROOT": str(root),
        "OPEN_PRUNE_DATASETS": str(datasets),
        "OPEN_PRUNE_NO_DOWNLOAD": "1",
        "OPEN_PRUNE_SITE": os.devnull,
        "OPEN_PRUNE_PLUGINS": "",
        "OMP_NUM_THREADS": "1",
    }


def _run(*arguments: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(arguments)
    assert code == 0, said.getvalue()
