"""The reference vectors of pruning: see tests/golden/README.md."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from pruning.masks.mask import Mask
from tests.conftest import golden_case, golden_cases
from tests.pruning.nets import build
from tests.pruning.published import PUBLISHED, Published


@dataclass
class Case:
    name: str

    @property
    def folder(self) -> Path:
        return golden_case(self.name)

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        return json.loads((self.folder / "case.json").read_text())

    @property
    def options(self) -> dict[str, Any]:
        return self.description["options"]

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.safetensors").exists()

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        if name == "weights" and not self.has(name):
            return Case(self.description["weights_origin"].split()[4]).tensors(name)
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
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.description["model"]["spec"]["input_shape"])

    def mask(self, name: str = "mask") -> Mask:
        return Mask(self.tensors(name))

    @property
    def repository(self) -> str:
        return self.description["source"]["repository"]

    @property
    def published(self) -> Published:
        return PUBLISHED[self.repository, self.description["method"]]

    @property
    def is_of_published(self) -> bool:
        """Whether `published.py` says how its code scores and counts."""
        return (self.repository, self.description["method"]) in PUBLISHED

    @property
    def strategy(self) -> str:
        """The method's name here, with the number of examples of the case."""
        return self.published.strategy.replace("N", str(self.options.get("examples_per_class")))

    @property
    def scoring(self) -> dict[str, Any]:
        """Arguments of `prune` with which it scores as the published code does."""
        arguments = {"input_shape": self.input_shape, **self.published.options}
        if self.options.get("prune_highest") is not None:
            arguments["highest"] = self.options["prune_highest"]
        if self.has("inputs"):
            arguments["examples"] = self.examples
            arguments["batch_size"] = self.options["batch_sizes"][0]
            arguments["score_in_eval_mode"] = self.options["mode"] == "eval"
        return arguments

    @property
    def total(self) -> int:
        return self.description["mask_counts"]["total"]

    @property
    def recorded_counts(self) -> list[int]:
        """Number of weights that the published code kept: after each iteration if all are recorded, else at the end."""
        for key in ("kept_after_each_iteration", "kept_after_each_epoch"):
            if key in self.description:
                return self.description[key]
        if "steps" in self.description:
            return [step["kept_after"] for step in self.description["steps"]]
        return [self.description["mask_counts"]["kept"]]

    @property
    def counts_of_rule(self) -> list[int]:
        """Number of weights that the published code's rule keeps after each iteration if no scores are equal."""
        return self.published.kept(self.total, self.options)

    @property
    def has_ties(self) -> bool:
        return self.description.get("ties_at_a_threshold", False)

    @property
    def counts(self) -> list[int]:
        """Number of weights that the published code kept after each iteration."""
        return self.recorded_counts if self.has_ties else self.counts_of_rule

    @property
    def tolerance(self) -> float:
        """Bound on rounding, relative to the largest score: ten times the error measured in float32."""
        noise = self.description.get("float32_noise_measured", {})
        return 10 * noise.get("max_abs_difference_over_max_abs_score", 1e-13)


def cases_where(holds: Callable[[Case], bool]) -> list[str]:
    """Return the names of the cases that are here and for which something holds."""
    return [name for name in golden_cases() if holds(Case(name))]


def cases_of(kind: str) -> list[str]:
    return cases_where(lambda case: case.description["kind"] == kind)


def difference(mine: Mask, theirs: Mask) -> tuple[int, int]:
    """Return the number of weights that only the first mask keeps, and that only the second keeps."""
    both = mine.intersection(theirs).kept
    return mine.kept - both, theirs.kept - both


def assert_scores_agree(
    mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], factor: float, tolerance: float
) -> None:
    """Check that mine = factor * theirs, up to `tolerance` times the largest score."""
    assert sorted(mine) == sorted(theirs)
    largest = max(score.abs().max().item() for score in mine.values())
    for name, score in mine.items():
        error = (score.double() - factor * theirs[name].double()).abs().max().item()
        assert error <= tolerance * largest, f"{name}: {error / largest}"
