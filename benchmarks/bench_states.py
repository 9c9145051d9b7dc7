"""Saving and loading states of networks, against plain files of the same bytes; verifying runs, against SHA-256.

The plain side writes and reads a file with safetensors, without a digest, a check or an atomic rename. Verifying reads
every byte of eight runs with two states of a ResNet-50 each, from the page cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.made_runs import make_complete, network
from benchmarks.timing import Median, Row, in_turn, median_ratio
from cli.main import main as command
from foundations.metrics import Metrics
from foundations.storage import tensor_files
from foundations.storage.manifest import FileRecord
from foundations.storage.run import MANIFEST, Run
from training.desc import TrainDesc
from training.recipes import recipe

RUNS = 8
CHECKPOINT_SECONDS = 60.0
"""The default time between checkpoints."""


def rows(repeats: int = 7) -> list[Row]:
    """Measure states of ResNet-20 and ResNet-50, checkpoints with metrics, and verifying."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        return [
            *_saved_and_loaded("cifar_resnet_20", place, repeats),
            *_saved_and_loaded("grasp_imagenet_resnet_50", place, repeats),
            _checkpoint(place, repeats),
            _verified(place / "verified", repeats),
        ]


def _run_with_state(name: str, root: Path) -> tuple[Run, TrainDesc, dict[str, Tensor]]:
    desc = TrainDesc.of(recipe(name))
    run = Run(root, desc.location(1))
    run.create(desc)
    return run, desc, dict(network(desc).state_dict())


def _saved_and_loaded(name: str, root: Path, repeats: int) -> list[Row]:
    run, desc, state = _run_with_state(name, root)
    plain = root / "plain.safetensors"
    works: dict[str, Callable[[], object]] = {
        "save": lambda: run.save_state(desc.start, state),
        "plain save": lambda: save_file(state, plain),
        "load": lambda: run.load_state(desc.start),
        "plain load": lambda: {key: tensor.clone() for key, tensor in load_file(plain).items()},
    }
    took = in_turn(works, repeats)
    size = f"{plain.stat().st_size / 2**20:.1f} MiB"
    rows = [
        Row(f"{name}: {what} a state / safetensors", median_ratio(took[what], took[f"plain {what}"]), "", size)
        for what in ("save", "load")
    ]
    return [*rows, Row(f"{name}: save a state", Median.of(took["save"]), "", f"{size}, flushed to the disk", "s")]


def _checkpoint(root: Path, repeats: int) -> Row:
    """Measure checkpoints of weights, momentum and the metrics of 160 epochs, as a share of training."""
    run, desc, state = _run_with_state("cifar_resnet_20", root)
    tensors = {**state, **{f"optimizer.{name}": tensor for name, tensor in state.items()}}
    metrics = Metrics()
    for epoch in range(160):
        for name in ("test_accuracy", "test_loss", "test_accuracy_top5"):
            metrics.add(name, desc.iterations_per_epoch * epoch, 1 / (epoch + 1))

    def save() -> None:
        run.save_checkpoint(tensors, {"step": 1})
        run.save_metrics(metrics)

    share = Median.of([each / CHECKPOINT_SECONDS for each in in_turn({"save": save}, repeats)["save"]])
    return Row("checkpoints and metrics of cifar_resnet_20 / training", share, "at most 0.01", "one a minute")


def _verified(root: Path, repeats: int) -> Row:
    for number in range(RUNS):
        _complete(TrainDesc.of({**recipe("grasp_imagenet_resnet_50"), "lr": number + 1.0}), root)
    files = [path for path in root.rglob("*") if path.is_file() and path.name != MANIFEST]
    size = sum(path.stat().st_size for path in files)

    def verify() -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert command(["verify", f"--root={root}"]) == 0, out.getvalue()

    def plain() -> None:
        for path in files:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256").hexdigest()

    took = in_turn({"verify": verify, "plain": plain}, repeats)
    ratio = median_ratio(took["plain"], took["verify"])
    detail = f"{size / 2**20:.0f} MiB, {RUNS} runs"
    return Row("verify / SHA-256 of the same bytes, speed", ratio, "at least 0.5", detail)


def _complete(desc: TrainDesc, root: Path) -> None:
    """Make a complete run with two states of its network."""
    make_complete([desc], root)
    run = Run(root, desc.location(1))
    manifest = run.read_manifest()
    assert manifest is not None
    state = network(desc).state_dict()
    for name in (run.state_name(desc.start), run.state_name(desc.end)):
        run.path(name).write_bytes(tensor_files.to_bytes(state, owner=f"{run}/{name}"))
    run.amended(files={name: FileRecord.of(run.path(name)) for name in manifest.files})
