"""AC/DC: against trajectories of its published code, a plain loop in float64, and as jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from branches.kinds import load_desc
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.small_runs import context, run_of, train_desc
from tests.training.techniques.networks import NETWORKS
from tests.training.techniques.toy_training import ToyTraining, batch, run, step, toy_training
from tests.training.techniques.trajectories import Trajectory
from training.hparams import TechniquesHparams
from training.jobs.compute import complete
from training.sparse import sparse
from training.techniques.acdc import AcdcHparams

STEPS = 20
PHASES: dict[str, Any] = {"acdc_prune_at": "4it,12it", "acdc_restore_at": "8it"}


@pytest.mark.parametrize("name", ["acdc_mlp", "acdc_resnet"])
def test_acdc_gives_the_trajectory_of_its_code(name: str) -> None:
    case = Trajectory(name)
    own, per_epoch = case.options, case.options["iterations_per_epoch"]
    at: dict[str, Any] = {
        f"acdc_{ours}_at": ",".join(f"{epoch * per_epoch}it" for epoch in range(*_bounds(own[f"{theirs}_epochs"])))
        for ours, theirs in (("prune", "pruner"), ("restore", "recycler"))
    }

    case.replay(
        "acdc",
        density=1 - own["sparsity"],
        before_step=True,
        acdc_rounding="acdc",
        acdc_reset_momentum=own["reset_momentum_after_recycling"],
        **at,
    )


def _bounds(published: list[int]) -> tuple[int, int, int]:
    start, stride, stop = published
    return start, stop, stride


class Loop:
    """AC/DC with SGD, written out."""

    def __init__(self, start: ToyTraining, kept: int, **options: bool) -> None:
        self.start, self.kept, self.resets = start, kept, options.get("resets", False)
        self.weights = {name: p.detach().clone() for name, p in start.model.named_parameters()}
        self.momenta = {name: torch.zeros_like(p) for name, p in self.weights.items()}
        self.ones = {n: torch.ones_like(p) for n, p in self.weights.items() if p.dim() > 1}
        self.masks = dict(self.ones)

    def train(self) -> Loop:
        own = self.start.desc.training
        for t in range(STEPS):
            if t in (4, 12):
                sizes = sorted((float(v.abs()) for n in self.masks for v in self.weights[n].flatten()), reverse=True)
                self.masks = {n: (self.weights[n].abs() >= sizes[self.kept - 1]).double() for n in self.masks}
                for name, mask in self.masks.items():
                    self.weights[name] = self.weights[name] * mask
            if t == 8:
                self.masks = self.ones
                if self.resets:
                    self.momenta = {name: torch.zeros_like(p) for name, p in self.weights.items()}
            x, y = batch(t)
            leaves = {name: w.clone().requires_grad_() for name, w in self.weights.items()}
            loss = F.cross_entropy(torch.func.functional_call(self.start.model, leaves, (x,)), y)
            for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
                mask = self.masks.get(name, torch.ones(()))
                decayed = gradient * mask + own.weight_decay * self.weights[name]
                self.momenta[name] = own.momentum * self.momenta[name] + decayed
                self.weights[name] = (self.weights[name] - own.lr * self.momenta[name]) * mask
        return self


@pytest.mark.parametrize("resets", [False, True])
def test_acdc_is_that_of_a_plain_loop(resets: bool) -> None:
    """Peste et al. 2021, algorithm 1: top-k of |w| at the start of a sparse phase, then all weights again."""
    expected = Loop(toy_training(density=None, training_steps="20it"), kept=_kept(0.2), resets=resets).train()
    training = toy_training(density=None, training_steps="20it")

    run(training, STEPS, technique="acdc", acdc_density=0.2, acdc_reset_momentum=resets, **PHASES)

    assert training.mask == Mask({name: mask.bool() for name, mask in expected.masks.items()})
    for name, parameter in training.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected.weights[name], rtol=0, atol=1e-10)
        momentum = training.optimizer.state[parameter]["momentum_buffer"]
        torch.testing.assert_close(momentum, expected.momenta[name], rtol=0, atol=1e-10)


def _kept(density: float) -> int:
    return round(density * (12 * 20 + 20 * 8 + 8 * 4))


def test_momentum_of_pruned_weights_decays_and_moves_them_when_they_are_restored() -> None:
    training = toy_training(density=None, training_steps="20it")
    momenta: dict[int, Tensor] = {}
    weights: dict[int, Tensor] = {}

    def note(at: Step) -> None:
        if at.iteration:
            momenta[at.iteration] = training.momentum_of("0.weight").clone()
        weights[at.iteration] = training.model.get_parameter("0.weight").detach().clone()

    run(training, STEPS, [note], technique="acdc", acdc_density=0.2, **PHASES)

    pruned = weights[8] == 0
    assert pruned.any()
    torch.testing.assert_close(momenta[8][pruned], momenta[4][pruned] * 0.9**4)
    assert (weights[9][pruned] != 0).all()


def hparams(end: int, **flags: Any) -> AcdcHparams:
    ((_, found),) = TechniquesHparams.of({"technique": "acdc", **flags}).for_training(step(end), has_mask=False).parts
    assert isinstance(found, AcdcHparams)
    return found


def test_the_default_phases_are_those_of_the_paper_in_proportion() -> None:
    end = step(200 * 6)

    found = hparams(end.iteration)

    assert [at.iteration // 6 for at in found.prunings(end)] == [10, 50, 90, 130, 170]
    assert [at.iteration // 6 for at in found.restorings(end)] == [30, 70, 110, 150]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"acdc_prune_at": "4it"}, "^acdc_prune_at, acdc_restore_at: give both"),
        ({"acdc_prune_at": "4it", "acdc_restore_at": "4it"}, "pruned and restored at 4it"),
        ({"acdc_prune_at": "4it", "acdc_restore_at": "8it"}, "would end dense"),
        ({"acdc_prune_at": "", "acdc_restore_at": ""}, "would end dense"),
        ({"acdc_prune_at": "4it,30it", "acdc_restore_at": "8it"}, "^acdc_prune_at: 30it is after"),
        ({"acdc_prune_at": "4it,x", "acdc_restore_at": "8it"}, "^acdc_prune_at: 'x' is not a step"),
        ({"acdc_rounding": "acdc", "acdc_allocation": "uniform"}, "^acdc_allocation: "),
    ],
)
def test_phases_that_cannot_be_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hparams(STEPS, **flags)
    with pytest.raises(UsageError, match="too short for the default phases"):
        hparams(4)


@pytest.mark.parametrize("flags", [{}, {"acdc_allocation": "erk"}, {"acdc_rounding": "acdc"}])
def test_a_job_ends_with_the_stated_density_and_records_that_of_its_phases(
    flags: dict[str, Any], tmp_path: Path, digits: Path
) -> None:
    desc, place = train_desc(technique="acdc", acdc_density=0.2, **flags), context(tmp_path, digits)

    complete(desc, place)

    run = run_of(desc, place)
    mask, report = Mask.of_run(run), run.sparsity()
    assert report is not None
    assert mask.kept == round(0.2 * mask.total) - ("acdc_rounding" in flags)
    assert report["achieved"]["kept"] == mask.kept
    assert report["requested"]["density"] == pytest.approx(0.2, abs=1e-3)
    values = run.metrics().values
    assert values["acdc_density", 0] == 1
    assert values["acdc_density", 18] == mask.density


def test_a_job_can_prune_once_and_restore_never(tmp_path: Path, digits: Path) -> None:
    """No steps at all are another value than the default steps, also where the description is read back."""
    desc, place = train_desc(technique="acdc", acdc_prune_at="9it", acdc_restore_at=""), context(tmp_path, digits)

    complete(desc, place)

    run = run_of(desc, place)
    values = run.metrics().values
    assert [values["acdc_density", at] == 1 for at in (0, 6, 12, 18)] == [True, True, False, False]
    assert load_desc(run) == desc


def test_a_dense_phase_has_the_weights_of_the_mask_that_training_starts_from() -> None:
    training = toy_training(density=0.5, training_steps="20it")
    start = training.mask
    masks: dict[int, Mask | None] = {}

    run(training, STEPS, [lambda at: masks.update({at.iteration: training.mask})], technique="acdc", **PHASES)

    assert start is not None
    assert masks[0] == masks[10] == start
    assert masks[5] != start
    assert training.mask is not None
    assert training.mask.intersection(start) == training.mask
    assert training.mask.kept == _kept(0.1)


@pytest.mark.parametrize("kind", NETWORKS)
def test_any_network_in_a_loop_of_a_users_own_ends_with_the_exact_count(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    training = sparse(optimizer, model, "acdc", density=0.3, end=12, acdc_reset_momentum=True)
    densities = []
    for number in range(12):
        optimizer.zero_grad()
        F.cross_entropy(model(batch(number)[0]), batch(number)[1]).backward()
        optimizer.step()
        densities.append(training.metrics()["acdc_density"])

    assert training.mask is not None
    assert training.mask.kept == round(0.3 * training.mask.total)
    assert 1.0 in densities[3:]
    for name, kept in training.mask.items():
        assert not model.get_parameter(name)[~kept].any()
