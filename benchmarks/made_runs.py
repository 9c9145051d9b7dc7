"""Networks, datasets of noise, and directories that look like complete runs, made without computing anything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from branches.desc import BranchDesc
from datasets.formats.source_files import Split
from datasets.prepared import write_split
from datasets.registry import DATASETS
from foundations.description.desc import Desc
from foundations.storage.manifest import FileRecord, Manifest
from foundations.storage.run import DESCRIPTION, MANIFEST, MASK, METRICS, SPARSITY, Run
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import nn

RESULTS = {"test_accuracy": 0.9, "test_loss": 0.3}


def make_complete(descs: Iterable[Desc], root: Path) -> None:
    """Create a directory for each description, with the description, small files, and a matching manifest."""
    for desc in descs:
        run = Run(root, desc.location(1))
        run.folder.mkdir(parents=True)
        for name in (MASK, SPARSITY, METRICS, run.state_name(desc.start), run.state_name(desc.end)):
            (run.folder / name).write_text("{}")
        (run.folder / DESCRIPTION).write_text(json.dumps(desc.record(), indent=1, sort_keys=True))
        files = {path.name: FileRecord.of(path) for path in run.folder.iterdir()}
        manifest = Manifest(files=files, results=_results(desc), finished=time.strftime("%F"))
        (run.folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True))


def _results(desc: Desc) -> dict[str, float | None]:
    """Return results, with the requested sparsity of a branch."""
    pruning = desc.pruning if isinstance(desc, BranchDesc) else None
    reached = {} if pruning is None else {"density": 1 - pruning.level, "sparsity": pruning.level}
    return {**RESULTS, **reached}


def network(desc: TrainDesc) -> nn.Module:
    """Return the network of a training, initialized."""
    from models.build import build_model

    return build_model(desc.model, outputs=desc.outputs, inputs=desc.dataset.inputs, seed_keys=(0,))


def prepare(name: str, folder: Path) -> None:
    """Prepare a dataset unless it is there: images as noise, shipped datasets as they are."""
    from datasets.prepared import ensure_prepared, is_prepared
    from foundations.inputs import IMAGES

    if DATASETS.find(name).inputs != IMAGES:
        ensure_prepared(name, folder, allow_download=False, report=lambda _: None)
    elif not is_prepared(name, folder):  # also where a process was killed between the splits
        make_noise(name, folder)


def make_noise(name: str, folder: Path) -> None:
    """Prepare a dataset of noise: time does not depend on the content of images."""
    import numpy as np

    spec = DATASETS.find(name)
    random = np.random.default_rng(0)
    for split, count in (("train", spec.num_train), ("test", spec.num_test)):
        (folder / name).mkdir(exist_ok=True)
        images = random.integers(0, 256, (count, *spec.input_shape), dtype=np.uint8)
        labels = random.integers(0, spec.num_classes, count, dtype=np.int64)
        write_split(name, split, Split(images, labels, tuple(map(str, range(spec.num_classes))), "noise"), folder)
