from __future__ import annotations

from pathlib import Path

import pytest

from analysis.run import StoredRun, open_run
from tests.training.small_runs import context, run_of, train_desc
from training.execution import ensure_states


@pytest.fixture(scope="session")
def convolutions(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> StoredRun:
    """A training of two convolutions and a linear layer, all with biases, of which only the first state is there."""
    desc, place = train_desc(model_name="synflow_conv"), context(tmp_path_factory.mktemp("convolutions"), digits)
    ensure_states(desc, place, [desc.start])
    return open_run(str(run_of(desc, place)), place.root, digits)


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> StoredRun:
    """The first state of a small ResNet."""
    desc, place = train_desc(model_name="digits_resnet_8_4"), context(tmp_path_factory.mktemp("resnet"), digits)
    ensure_states(desc, place, [desc.start])
    return open_run(str(run_of(desc, place)), place.root, digits)
