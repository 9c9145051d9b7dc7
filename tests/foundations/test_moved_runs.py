"""A complete run is packed, or unpacked, by another process after this one has looked at it: every reader finds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundations.description.desc import MaskOf, RunRef, StateOf
from foundations.storage.packing import pack, unpack
from foundations.storage.run import MASK, METRICS, SPARSITY, Run
from foundations.storage.upkeep import verify
from tests.foundations.toy_descriptions import ToyDesc, complete_run, rewrite, state, step

_STATE = Run.state_name(step(10))
READERS: dict[str, Callable[[Run], Any]] = {
    "record": lambda run: run.record(),
    "check": lambda run: run.check(ToyDesc()),
    "exists": lambda run: run.exists(),
    "manifest": lambda run: run.manifest(),
    "first manifest": lambda run: run.first_manifest(),
    "left out": lambda run: run.left_out(),
    "metrics": lambda run: run.metrics().values,
    "bytes of metrics": lambda run: run.check_metrics(),
    "data": lambda run: run.data(METRICS),
    "sparsity": lambda run: run.sparsity(),
    "has mask": lambda run: run.has_mask(),
    "mask": lambda run: sorted(run.load_mask()[0]),
    "has state": lambda run: run.has_state(step(10)),
    "kept states": lambda run: run.kept_states(5),
    "evicted states": lambda run: run.evicted_states(5),
    "state": lambda run: sorted(run.load_state(step(10))),
    "tensors": lambda run: sorted(run.read_tensors(_STATE)[0]),
    "names of tensor files": lambda run: [path.name for path in run.tensor_files()],
    "fingerprint of a state": lambda run: run.fingerprint(StateOf(RunRef(ToyDesc(), 1), step(10))),
    "fingerprint of a mask": lambda run: run.fingerprint(MaskOf(RunRef(ToyDesc(), 1))),
    "bytes": lambda run: run.check_bytes(_STATE, run.read_manifest().files[_STATE]),  # type: ignore[union-attr]
    "whether it was written": lambda run: run.changed() > 0,
    "verify": verify,
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    from foundations.storage import sealed_json, tensor_files

    run = complete_run(tmp_path)
    rewrite(run, MASK, tensor_files.to_bytes(state(1.0), {}, owner=f"{run}/{MASK}"))
    rewrite(run, SPARSITY, sealed_json.to_bytes({"total": 1}))
    return Run(tmp_path, run.location)


def pack_it(run: Run) -> None:
    assert pack([Run(run.root, run.location)], lambda _line: None)[0]


def unpack_it(run: Run) -> None:
    assert list(unpack([Run(run.root, run.location)]))


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_run_that_was_packed_since_it_was_looked_at_reads_the_same(run: Run, read: Callable[[Run], Any]) -> None:
    expected = read(Run(run.root, run.location))
    assert run.manifest() is not None

    pack_it(run)

    assert read(run) == expected


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_run_that_was_unpacked_since_it_was_looked_at_reads_the_same(run: Run, read: Callable[[Run], Any]) -> None:
    expected = read(Run(run.root, run.location))
    pack_it(run)
    assert run.manifest() is not None

    unpack_it(run)

    assert read(run) == expected
