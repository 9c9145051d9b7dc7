from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn

from tests.branches.importing import Importer
from tests.training.small_runs import train_desc
from training.job import initialized_model


@pytest.fixture
def network() -> nn.Module:
    """A network that no run under the root has, as if it was trained elsewhere."""
    return initialized_model(train_desc(), 9)


@pytest.fixture
def weights(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.state_dict())


@pytest.fixture
def importer(tmp_path: Path, digits: Path) -> Importer:
    return Importer(tmp_path, digits)
