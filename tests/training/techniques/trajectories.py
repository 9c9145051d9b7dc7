"""Trajectories of sparse training that published code computed, and their replay in a loop with `sparse`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.inputs import Inputs
from models.build import construct
from models.hparams import ModelHparams
from open_prune import Mask, SparseTraining, sparse
from tests.conftest import GOLDEN_FOLDERS, SHARED

TOLERANCE = 1e-5
"""Of weights and momentum, absolute."""


class Trajectory:
    """One case: start, batches, and the state after some steps."""

    def __init__(self, name: str) -> None:
        """Find the case. Skips the test where it is not on this machine."""
        folders = (SHARED / "golden_methods", *GOLDEN_FOLDERS)
        found = [folder / name for folder in folders if (folder / name).is_dir()]
        if not found:
            pytest.skip(f"the reference vectors of {name} are not on this machine")
        self.folder: Path = found[0]
        self.case: dict[str, Any] = json.loads((self.folder / "case.json").read_text())
        self.options: dict[str, Any] = self.case["options"]

    def tensors(self, name: str) -> dict[str, Tensor]:
        return safetensors.torch.load_file(self.folder / f"{name}.safetensors")

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.safetensors").exists()

    @property
    def mask(self) -> Mask | None:
        """The mask at the start; None if it keeps every weight."""
        mask = Mask(self.tensors("mask"))
        return mask if mask.pruned else None

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        spec = self.case["model"]["spec"]
        hparams = ModelHparams(model_name=spec["product_name"])
        model = construct(hparams, spec["classes"], Inputs(tuple(spec["input_shape"])))
        model.load_state_dict(self.tensors("weights"))
        return model.to(dtype)

    def replay(self, technique: str, **options: Any) -> SparseTraining:
        """Train as the case did, with a technique of ours; compare masks, weights and momentum wherever recorded."""
        model = self.model()
        own = self.options
        optimizer = torch.optim.SGD(
            model.parameters(), own["lr"], own["momentum"], weight_decay=own["weight_decay"], nesterov=own["nesterov"]
        )
        if self.mask is not None:
            self.mask.apply_(model)
        training = sparse(optimizer, model, technique, end=own["steps"], mask=self.mask, **options)
        inputs = self.tensors("inputs")
        x, y = inputs["x"].double(), inputs["y"]
        compared = 0
        for step in range(own["steps"]):
            rows = slice(step * own["batch_size"], (step + 1) * own["batch_size"])
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            compared += self._compare(step + 1, training, model, optimizer)
        assert compared
        return training

    def _compare(self, step: int, training: SparseTraining, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        masks, weights, momentum = (f"{what}_step{step}" for what in ("mask", "weights", "momentum"))
        if self.has(masks):
            assert training.mask == Mask(self.tensors(masks)), step
        if self.has(weights):
            state = model.state_dict()
            for name, expected in self.tensors(weights).items():
                torch.testing.assert_close(state[name], expected.to(state[name]), rtol=0, atol=TOLERANCE)
        if self.has(momentum):
            for name, expected in self.tensors(momentum).items():
                found = optimizer.state[model.get_parameter(name)]["momentum_buffer"]
                torch.testing.assert_close(found, expected.double(), rtol=0, atol=TOLERANCE)
        return self.has(masks) + self.has(weights) + self.has(momentum)
