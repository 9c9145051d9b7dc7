from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import pruning.scoring.scoring
from foundations.examples import Rows
from pruning.compute_mask import mask_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.scoring.activation_memory import activation_bytes
from pruning.scoring.inputs import ScoringInputs
from tests.pruning.nets import LeNet

SHAPE = (3, 8, 8)


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *[nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)) for _ in range(3)]
        )
        self.fc = nn.Linear(3 * 64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.blocks(x)).flatten(1))


def scored(model: nn.Module, strategy: str, seen: list[int]) -> Mask:
    """Return the mask of a model; `seen` gets how many examples are read at a time."""
    x, y = torch.randn(12, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4

    def read(rows: slice) -> torch.Tensor:
        seen.append(rows.stop - rows.start)
        return x[rows]

    hparams = PruningHparams.of({"strategy": strategy, "density": 0.3})
    return mask_from_hparams(model.double(), hparams, ScoringInputs(seed=0, examples=Rows(y, read), batch_size=6))


def test_the_bytes_are_those_of_what_the_backward_pass_needs_besides_parameters() -> None:
    network = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))
    assert activation_bytes(network, torch.ones(1, 10)) == 4 * (10 + 20)


def test_measuring_leaves_no_trace() -> None:
    network = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20), nn.Dropout())
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in network.state_dict().items()}
    activation_bytes(network, torch.ones(1, 10))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert network[1].training


@pytest.mark.parametrize("strategy", ["snip3", "grasp3"])
@pytest.mark.parametrize("build", [lambda: nn.Sequential(nn.Flatten(), LeNet([9], 4, 192)), Normalized])
def test_activations_are_bounded_without_anyone_asking_for_it(
    strategy: str, build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many examples at a time as fit, or blocks that are recomputed where batchnorm couples the examples."""
    model = build().double()
    bytes_of_one = activation_bytes(model, torch.ones(1, *SHAPE, dtype=torch.float64))
    at_once: list[int] = []
    in_parts: list[int] = []
    expected = scored(model, strategy, at_once)
    monkeypatch.setattr(
        pruning.scoring.scoring, "MOST_ACTIVATIONS", 2 * bytes_of_one * (3 if strategy == "grasp3" else 1)
    )
    assert scored(model, strategy, in_parts) == expected
    assert max(at_once) == 6
    assert in_parts[-1] == (6 if isinstance(model, Normalized) else 2)
