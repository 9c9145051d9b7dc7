"""The reference vectors of pruning: see tests/golden/README.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from pruning.mask import Mask
from tests.conftest import golden_case
from tests.pruning.nets import build


@dataclass
class Case:
    name: str

    @property
    def folder(self) -> Path:
        return golden_case(self.name)

    @property
    def description(self) -> dict[str, Any]:
        return json.loads((self.folder / "case.json").read_text())

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        return safetensors.torch.load_file(self.folder / f"{name}.safetensors")

    def model(self, weights: str = "weights") -> nn.Module:
        model = build(self.description["model"]["spec"])
        model.load_state_dict(self.tensors("weights") | self.tensors(weights))
        return model

    @property
    def examples(self) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = self.tensors("inputs")
        return inputs["x"], inputs["y"]

    @property
    def batch_size(self) -> int:
        return self.description["options"]["batch_sizes"][0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.description["model"]["spec"]["input_shape"])

    def mask(self, name: str = "mask") -> Mask:
        return Mask(self.tensors(name))

    @property
    def tolerance(self) -> float:
        """What float32 noise may amount to, relative to the largest score: ten times what was measured."""
        return 10 * self.description["float32_noise_measured"]["max_abs_difference_over_max_abs_score"]


def difference(mine: Mask, theirs: Mask) -> tuple[int, int]:
    """Return how many weights only the first keeps, and how many only the second does."""
    both = mine.intersection(theirs).kept
    return mine.kept - both, theirs.kept - both


def assert_scores_agree(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float) -> None:
    """Agree up to `tolerance` times the largest score, and up to a common positive factor of theirs."""
    assert sorted(mine) == sorted(theirs)
    a = torch.cat([mine[name].double().flatten() for name in sorted(mine)])
    b = torch.cat([theirs[name].double().flatten() for name in sorted(mine)])
    b = b * ((a @ b) / (b @ b))
    assert (a @ b) > 0
    assert ((a - b).abs().max() / a.abs().max()).item() <= tolerance
