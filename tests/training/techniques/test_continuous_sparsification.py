"""Continuous sparsification: against a trajectory of its published code, a plain loop in float64, and as jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.small_runs import context, run_of, train_desc
from tests.training.techniques.networks import NETWORKS
from tests.training.techniques.toy_training import EPOCH, ToyTraining, batch, run, step, toy_training
from tests.training.techniques.trajectories import Trajectory
from training.hparams import TechniquesHparams
from training.jobs.compute import complete
from training.sparse import SparseTraining, sparse
from training.techniques.continuous_sparsification import CsHparams

NAME = "continuous_sparsification"


def test_continuous_sparsification_gives_the_trajectory_of_its_code() -> None:
    case = Trajectory("cs_resnet")
    options = case.options

    def own(training: SparseTraining) -> tuple[Mask, dict[str, Tensor]]:
        hooks: Any = training._hooks.by_name[NAME]
        more = {f"{key.removesuffix('.weight')}.mask_weight": s for key, s in hooks.s.items()}
        return hooks.outcome(), more

    case.replay(
        NAME,
        before_step=True,
        own=own,
        steps_per_epoch=options["iterations_per_epoch"],
        cs_rounds=options["rounds"],
        cs_rewind=f"{options['rewind_epoch']}ep",
        cs_s0=options["mask_initial_value"],
        cs_lambda=options["lmbda"],
        cs_final_temperature=options["final_temp"],
        cs_next_round="unscaled",
        cs_layers="convolutions",
    )


class Loop:
    """Continuous sparsification of all layers with SGD, written out: two rounds of two epochs, and the ticket."""

    def __init__(self, start: ToyTraining, *, s0: float, final: float, penalty: float, scaled: bool) -> None:
        self.start, self.s0, self.final, self.penalty, self.scaled = start, s0, final, penalty, scaled
        self.weights = {name: p.detach().clone() for name, p in start.model.named_parameters()}
        self.s = {n: torch.full_like(p, s0) for n, p in self.weights.items() if p.dim() > 1}
        self.scale = 1 + torch.exp(torch.tensor(-s0, dtype=torch.float64))
        self.momenta: dict[str, Tensor] = {}

    def train(self, *, ticket: bool) -> Loop:
        number = 0
        rewound: dict[str, Tensor] = {}
        for part in range(2 + ticket):
            if part == 1:
                self.s = {n: ((self.final if self.scaled else 1) * s).clamp(max=self.s0) for n, s in self.s.items()}
            if part == 2:
                self.weights, self.momenta = rewound, {}
            for epoch in range(2):
                if number == EPOCH:
                    rewound = dict(self.weights)
                for _ in range(EPOCH):
                    self._step(number, self.final**epoch, is_hard=part == 2)
                    number += 1
        return self

    def _step(self, number: int, beta: float, *, is_hard: bool) -> None:
        own = self.start.desc.training
        s = {name: value.clone().requires_grad_() for name, value in self.s.items()}
        w = {name: value.clone().requires_grad_() for name, value in self.weights.items()}
        soft = {n: ((v > 0).double() if is_hard else 1 / (1 + torch.exp(-beta * v))) * self.scale for n, v in s.items()}
        used = {name: value * soft.get(name, 1) for name, value in w.items()}
        x, y = batch(number)
        loss = F.cross_entropy(torch.func.functional_call(self.start.model, used, (x,)), y)
        (loss + self.penalty * sum(each.sum() for each in soft.values())).backward()
        for place, leaves, decay in ((self.weights, w, own.weight_decay), (self.s, {} if is_hard else s, 0.0)):
            for name, leaf in leaves.items():
                assert leaf.grad is not None
                key = f"{decay} {name}"
                change = leaf.grad + decay * place[name]
                self.momenta[key] = own.momentum * self.momenta.get(key, torch.zeros(())) + change
                place[name] = place[name] - own.lr * self.momenta[key]


@pytest.mark.parametrize(("ticket", "scaled"), [(True, True), (False, True), (True, False)])
def test_continuous_sparsification_is_that_of_a_plain_loop(ticket: bool, scaled: bool) -> None:
    """Savarese et al. 2020, algorithm 2: w sigmoid(beta s), s <- min(beta s, s0), and the ticket 1[s > 0]."""
    own: dict[str, Any] = {"s0": 0.005, "final": 20.0, "penalty": 0.001, "scaled": scaled}
    steps = (2 + ticket) * 2 * EPOCH

    def begun() -> ToyTraining:
        return toy_training(density=None, training_steps=f"{steps}it")

    expected = Loop(begun(), **own).train(ticket=ticket)
    training = begun()
    run(
        training, steps, technique=NAME, cs_rounds=2, cs_s0=0.005, cs_lambda=0.001, cs_final_temperature=20.0,
        cs_layers="all", cs_next_round="scaled" if scaled else "unscaled",
        cs_result="ticket" if ticket else "network",
    )  # fmt: skip

    assert training.mask == Mask({name: s > 0 for name, s in expected.s.items()})
    assert 0 < training.mask.pruned < training.mask.total
    hooks: Any = training.hooks.by_name[NAME]
    for name, s in hooks.s.items():
        torch.testing.assert_close(s.detach(), expected.s[name], rtol=0, atol=1e-9)
    for name, parameter in training.model.named_parameters():
        factor = (expected.s[name] > 0) * expected.scale if name in expected.s else 1
        torch.testing.assert_close(parameter.detach(), expected.weights[name] * factor, rtol=0, atol=1e-9)


def test_the_learning_rate_begins_again_in_each_round() -> None:
    flags = {"milestone_steps": "1ep", "gamma": 0.1, "training_steps": "6ep"}
    training = toy_training(density=None, **flags)
    seen: dict[int, int] = {}

    def note(at: Step) -> None:
        seen[at.iteration] = training.hooks.skipped_before(at)

    run(training, 6 * EPOCH, [note], technique=NAME, cs_rounds=2)

    assert [seen[at] for at in (0, 2 * EPOCH - 1, 2 * EPOCH, 4 * EPOCH, 6 * EPOCH)] == [
        0, 0, 2 * EPOCH, 4 * EPOCH, 4 * EPOCH,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"cs_rounds": 4}, "^cs_rounds, training_steps: the training of 18it is not 5 rounds"),
        ({"cs_rounds": 2, "cs_temperature_frequency": "6it"}, "^cs_temperature_frequency: beta must rise"),
        ({"cs_rounds": 2, "cs_temperature_frequency": "0it"}, "^cs_temperature_frequency: beta must rise"),
        ({"cs_rounds": 2, "cs_temperature_frequency": "1it", "cs_rewind": "6it"}, "^cs_rewind: it must be"),
    ],
)
def test_rounds_that_cannot_be_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TechniquesHparams.of({"technique": NAME, **flags}).for_training(step(18), has_mask=False)


def test_fields_without_effect_do_not_change_the_address() -> None:
    plain = CsHparams(cs_rounds=1, cs_result="network")

    assert CsHparams(cs_rounds=1, cs_result="network", cs_rewind="2ep", cs_next_round="unscaled").simplified() == plain


def test_a_job_keeps_the_ticket_and_its_density(tmp_path: Path, digits: Path) -> None:
    flags: dict[str, Any] = {"training_steps": "6ep", "cs_rounds": 2, "cs_s0": -0.02, "cs_final_temperature": 50.0}
    desc, place = train_desc(technique=NAME, **flags), context(tmp_path, digits)

    complete(desc, place)

    run = run_of(desc, place)
    mask, report, last = Mask.of_run(run), run.sparsity(), run.load_state(desc.end)
    assert report is not None
    assert report["is_outcome"]
    assert list(mask) == ["fc_layers.0.weight"]
    assert 0 < mask.pruned < mask.total
    assert torch.equal(last["fc_layers.0.weight"] != 0, mask["fc_layers.0.weight"])
    values = run.metrics().values
    assert values[f"{NAME}_density", 36] == mask.density
    assert [values[f"{NAME}_temperature", at] for at in (0, 6, 12, 18)] == [1, 50, 1, 50]


@pytest.mark.parametrize("kind", NETWORKS)
def test_any_network_in_a_loop_of_a_users_own_ends_with_a_hard_mask(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    training = sparse(optimizer, model, NAME, end=12, steps_per_epoch=2, cs_rounds=2, cs_layers="all")
    for number in range(12):
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(batch(number)[0]), batch(number)[1]).backward()
        optimizer.step()

    assert training.mask is not None
    assert 0 < training.mask.pruned < training.mask.total
    for name, kept in training.mask.items():
        assert torch.equal(model.get_parameter(name) != 0, kept)
