"""Trajectories of sparse training that published code computed, and their replay in a loop with `sparse`."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.description.step import Step
from foundations.inputs import Inputs
from models.build import construct
from models.hparams import ModelHparams
from open_prune import Mask, SparseTraining, sparse
from tests.conftest import golden_case
from training.registry import TECHNIQUES

Outcome = Callable[[SparseTraining], Mask | None]
TOLERANCE = 1e-5
"""Of weights and momentum, absolute."""


class Trajectory:
    """One case: start, batches, and the state after some steps."""

    def __init__(self, name: str) -> None:
        """Find the case. Skips the test where it is not on this machine."""
        self.folder = golden_case(name)
        self.case: dict[str, Any] = json.loads((self.folder / "case.json").read_text())
        self.options: dict[str, Any] = self.case["options"]

    def tensors(self, name: str) -> dict[str, Tensor]:
        return safetensors.torch.load_file(self.folder / f"{name}.safetensors")

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.safetensors").exists()

    @property
    def mask(self) -> Mask | None:
        """The mask at the start; None if it keeps every weight."""
        if not self.has("mask"):
            return None
        mask = Mask(self.tensors("mask"))
        return mask if mask.pruned else None

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        spec = self.case["model"]["spec"]
        hparams = ModelHparams(model_name=spec["product_name"])
        model = construct(hparams, spec["classes"], Inputs(tuple(spec["input_shape"])))
        model.load_state_dict(self.tensors("weights"))
        return model.to(dtype)

    def replay(
        self,
        technique: str,
        outcome: Outcome | None = None,
        *,
        before_step: bool = False,
        own: Callable[[SparseTraining], tuple[Mask | None, dict[str, Tensor]]] | None = None,
        **options: Any,
    ) -> SparseTraining:
        """Train as the case did, with a technique of ours; compare masks, weights and momentum wherever recorded.

        outcome: the mask so far of a technique whose mask is its outcome. Its training ends a step later, so that the
        last weights of the case are those that train. before_step: compare before the technique acts at the step. own:
        returns the mask to compare, and tensors that the technique owns, by their names in the case.
        """
        model = self.model()
        optimizer = torch.optim.SGD(
            model.parameters(),
            self.options["lr"],
            self.options["momentum"],
            weight_decay=self.options["weight_decay" if "weight_decay" in self.options else "decay"],
            nesterov=self.options["nesterov"],
        )
        if self.mask is not None:
            self.mask.apply_(model)
        made: list[SparseTraining] = []
        compared: list[int] = []

        def compare(at: int) -> None:
            if made:
                mask, more = (made[0].mask, {}) if own is None else own(made[0])
                mask = outcome(made[0]) if outcome else mask
                state = {**model.state_dict(), **more}
                compared.append(self._compare(at, mask, state, model, optimizer))

        hooks = TECHNIQUES.find(technique).hooks
        act: Any = hooks.before_step  # type: ignore[attr-defined]

        def compare_and_act(acting: Any, step: Step) -> None:
            compare(step.iteration)
            act(acting, step)

        with mock.patch.object(hooks, "before_step", compare_and_act) if before_step else nullcontext():
            end = self.options["steps"] + bool(outcome)
            training = sparse(optimizer, model, technique, end=end, mask=self.mask, **options)
            made.append(training)
            inputs = self.tensors("inputs")
            x, y = inputs["x"].double(), inputs["y"]
            for step in range(self.options["steps"]):
                rows = slice(step * self.options["batch_size"], (step + 1) * self.options["batch_size"])
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
                if not before_step:
                    compare(step + 1)
        assert sum(compared)
        return training

    def _compare(
        self,
        step: int,
        mask: Mask | None,
        state: dict[str, Tensor],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> int:
        masks, weights, momentum = (f"{what}_step{step}" for what in ("mask", "weights", "momentum"))
        if self.has(masks):
            expected_mask = Mask(self.tensors(masks))
            assert mask is not None
            assert Mask({name: mask[name] for name in expected_mask}) == expected_mask, step
        if self.has(weights):
            for name, expected in self.tensors(weights).items():
                found = state[name].detach()
                torch.testing.assert_close(found, expected.to(found).view(found.shape), rtol=0, atol=TOLERANCE)
        if self.has(momentum):
            for name, expected in self.tensors(momentum).items():
                parameter = dict(model.named_parameters()).get(name, state[name])
                found = optimizer.state[parameter]["momentum_buffer"]
                torch.testing.assert_close(found, expected.double().view(found.shape), rtol=0, atol=TOLERANCE)
        return self.has(masks) + self.has(weights) + self.has(momentum)
