from __future__ import annotations

from pathlib import Path

import pytest

from analysis.rows.run import StoredRun, open_run
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.jobs.compute import complete, ensure_states


@pytest.fixture(scope="session")
def convolutions(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> StoredRun:
    """A training of two convolutions and a linear layer, all with biases. Only its first state exists."""
    desc, place = train_desc(model_name="synflow_conv"), context(tmp_path_factory.mktemp("convolutions"), digits)
    ensure_states(desc, place, [desc.start])
    return open_run(str(run_of(desc, place)), place.root, digits)


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> StoredRun:
    """The first state of a small ResNet."""
    desc, place = train_desc(model_name="digits_resnet_8_4"), context(tmp_path_factory.mktemp("resnet"), digits)
    ensure_states(desc, place, [desc.start])
    return open_run(str(run_of(desc, place)), place.root, digits)


@pytest.fixture(scope="session")
def resnets(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> tuple[StoredRun, StoredRun]:
    """Two small ResNets trained for two epochs from one initialization, on two orders of the data."""
    place = context(tmp_path_factory.mktemp("resnets"), digits)
    descs = [train_desc(model_name="digits_resnet_8_4", training_steps="2ep", data_order_seed=seed) for seed in (1, 2)]
    first, second = (open_run(str(complete(desc, place).run), place.root, digits) for desc in descs)
    return first, second


@pytest.fixture(scope="session")
def pruned_resnet(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> StoredRun:
    """The first state of a ResNet, 5 % of which magnitude pruning kept."""
    place = context(tmp_path_factory.mktemp("pruned_resnet"), digits)
    desc = oneshot_desc(density=0.05, parent={"model_name": "digits_resnet_8_4"})
    ensure_states(desc, place, [desc.start])
    return open_run(str(run_of(desc, place)), place.root, digits)
