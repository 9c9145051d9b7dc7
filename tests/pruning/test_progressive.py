"""Iterative SNIP, GRASP-It and FORCE: one schedule, one counting rule, new batches in each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foundations.examples import Rows, draw_examples
from pruning.compute_mask import mask_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.scoring.inputs import ScoringInputs
from tests.datasets.test_drawn_examples import images_of, loader
from tests.pruning.golden import Case, assert_scores_agree, cases_where, difference

pytestmark = pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")

STRATEGY = {"iter_snip": "snip1", "grasp_it": "grasp_it1", "force": "force1"}
PUBLISHED = cases_where(lambda case: case.repository == "naver/force")


@pytest.mark.parametrize("name", PUBLISHED)
def test_scores_counts_and_masks_are_those_of_the_published_code(name: str) -> None:
    case = Case(name)
    counts: list[int] = []
    found: list[dict[str, torch.Tensor]] = []
    options, inputs, is_whole = case.options, case.tensors("inputs"), case.has("mask")
    size = options["batch_size"] * options["num_batches"]
    wanted = {"density": options["density"], "prune_iterations": options["num_steps"], "score_batches_equally": True}
    schedule = {"exp": "exponential", "linear": "linear"}[options["schedule"]]

    def batches(number: int) -> Rows:
        start = number * size if is_whole else 0
        return Rows.of(*(inputs[key][start : start + size] for key in ("x", "y")))

    def on_iteration(_: int, mask: Mask, scores: dict[str, torch.Tensor]) -> None:
        counts.append(mask.kept)
        found.append(scores)

    mask = mask_from_hparams(
        case.model(),
        PruningHparams.of(
            {"strategy": STRATEGY[options["variant"]], "rounding": "force", "prune_schedule": schedule, **wanted}
        ),
        ScoringInputs(seed=0, examples=batches, batch_size=options["batch_size"]),
        on_iteration=on_iteration,
    )

    assert counts == case.description["kept_after_each_step"]
    assert_scores_agree(found[0], case.tensors("scores_first_step"), 1.0, case.tolerance)
    if is_whole:
        assert_scores_agree(found[-1], case.tensors("scores"), 1.0, case.tolerance)
        assert difference(mask, case.mask()) == (0, 0)


@pytest.mark.parametrize("variant", ["iter_snip", "grasp_it", "force"])
def test_masks_are_those_of_the_definition(variant: str) -> None:
    torch.manual_seed(3)
    first, second = nn.Linear(6, 8).double(), nn.Linear(8, 3).double()
    model = nn.Sequential(first, nn.Tanh(), second)
    x, y = torch.randn(30, 6, dtype=torch.float64), torch.arange(30) % 3
    dense = {"0.weight": first.weight.detach(), "2.weight": second.weight.detach()}
    kept = {name: torch.ones_like(weight) for name, weight in dense.items()}
    for step in range(1, 4):
        weights = {name: (weight * kept[name]).requires_grad_() for name, weight in dense.items()}
        hidden = (x @ weights["0.weight"].T + first.bias).tanh()
        loss = F.cross_entropy(hidden @ weights["2.weight"].T + second.bias, y)
        gradient = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        scores = {
            name: {
                "iter_snip": (kept[name] * dense[name] * gradient[name]).abs(),
                "grasp_it": kept[name] * gradient[name].square(),
                "force": (dense[name] * gradient[name]).abs(),
            }[variant]
            for name in dense
        }
        ranked = torch.cat([score.flatten() for score in scores.values()]).sort(descending=True).values
        threshold = ranked[int(72 * 0.25 ** (step / 3)) - 1]
        kept = {name: (score >= threshold).double() for name, score in scores.items()}

    options: dict[str, Any] = {"density": 0.25, "iterations": 3, "rounding": "force", "examples": (x, y)}
    mask = prune(model, STRATEGY[variant].replace("1", "10"), **options)

    assert difference(mask, Mask({name: keeps.bool() for name, keeps in kept.items()})) == (0, 0)


def test_redrawn_batches_are_the_first_ones_of_all_examples_in_a_new_order() -> None:
    of_pass = draw_examples(50, 45, seed=3, batch=20)
    passes = [of_pass(number).split(20) for number in range(3)]

    assert all(len(set(batch.tolist())) == len(batch) for batches in passes for batch in batches)
    assert len({tuple(sorted(batch.tolist())) for batches in passes for batch in batches}) == 9
    assert set(passes[0][0].tolist()) & set(passes[0][1].tolist())  # without memory of the batch before
    assert torch.equal(of_pass(1), draw_examples(50, 45, seed=3, batch=20)(1))
    assert not torch.equal(of_pass(1), draw_examples(50, 45, seed=4, batch=20)(1))


def test_redrawn_examples_of_a_dataset_differ_from_pass_to_pass(digits: Path) -> None:
    of_pass = loader(digits).drawn_examples(7, seed=0, batch=70)

    first, second = (set(images_of(of_pass(number).read()[0])) for number in (0, 1))

    assert len(first) == len(second) == 70
    assert len(first & second) < 20


def test_the_library_draws_each_batch_anew() -> None:
    seen: list[set[float]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(set(x[:, 0].tolist()))
            out: torch.Tensor = self.fc(x)
            return out

    x, y = torch.arange(80.0).view(40, 2), torch.arange(40) % 2
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    for examples in ((x, y), batches):
        seen.clear()
        options: dict[str, Any] = {"iterations": 2, "examples": examples, "batch_size": 6}
        prune(Watched(), "force5", density=0.5, score_examples="redrawn", **options)
        assert [len(batch) for batch in seen if len(batch) > 1][-4:] == [6, 4, 6, 4]
        assert len({frozenset(batch) for batch in seen[-4:]}) == 4
