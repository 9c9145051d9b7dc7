"""Directories that look like complete runs, created without computing anything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from branches.desc import BranchDesc
from foundations.description.desc import Desc
from foundations.storage.manifest import FileRecord, Manifest
from foundations.storage.run import DESCRIPTION, MANIFEST, MASK, METRICS, SPARSITY, Run

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
