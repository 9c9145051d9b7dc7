from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.description.step import Step
from foundations.inputs import Inputs
from models.build import build_model
from models.hparams import ModelHparams
from pruning.masks.mask import Mask
from tests.conftest import golden_case
from tests.training.whole_loop import train
from training.hparams import TrainingHparams
from training.loop.loop import Callback
from training.loop.lr_schedule import learning_rate
from training.loop.optimizers import make_optimizer

TRAJECTORIES = (
    "training_lenet_300_100_dense",
    "training_lenet_60_30_masked",
    "training_resnet20_dense",
    "training_resnet20w6_masked",
)


class ConsecutiveBatches:
    """Batches of consecutive examples; an epoch goes on where the last one ended."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, batches_per_epoch: int) -> None:
        self.images, self.labels = images, labels
        self.batch_size, self.batches_per_epoch = batch_size, batches_per_epoch

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in range(first, self.batches_per_epoch):
            begin = (epoch * self.batches_per_epoch + batch) * self.batch_size
            rows = slice(begin, begin + self.batch_size)
            yield self.images[rows], self.labels[rows]


def hparams_of(options: Mapping[str, Any], epoch_length: int) -> TrainingHparams:
    return TrainingHparams(
        optimizer_name=options["optimizer"],
        lr=options["lr"],
        momentum=options["momentum"],
        weight_decay=options["weight_decay"],
        milestone_steps=",".join(f"{step}it" for step in options["milestones_in_steps"]),
        gamma=options["gamma"],
        warmup_steps=f"{options['warmup_in_steps']}it",
        training_steps=f"{options['steps']}it",
    ).normalized(epoch_length)


@pytest.mark.parametrize("name", TRAJECTORIES)
@pytest.mark.parametrize(
    ("memory_format", "dtype"),
    [(torch.contiguous_format, torch.float32), (torch.channels_last, torch.float64)],
    ids=["as published", "channels last in double precision"],
)
def test_a_training_follows_the_published_trajectory(
    name: str, memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    # In float32, the kernels of another layout round an activation or two to the other side of zero.
    folder = golden_case(name)
    case = json.loads((folder / "case.json").read_text())
    options, epoch_length = case["options"], case["options"]["iterations_per_epoch"]
    hparams = hparams_of(options, epoch_length)
    start_weights, inputs = load_file(folder / "weights.safetensors"), load_file(folder / "inputs.safetensors")
    _, channels, height, width = inputs["x"].shape
    model = build_model(
        ModelHparams(model_name=case["model"]["spec"]["openlth_name"]),
        outputs=case["model"]["spec"]["classes"],
        inputs=Inputs((channels, height, width)),
        seed_keys=(1,),
    )
    model.load_state_dict(start_weights)
    model.to(dtype).to(memory_format=memory_format)
    optimizer = make_optimizer(hparams, model.parameters())
    mask: Mask | None = None
    if (folder / "mask.safetensors").exists():
        mask = Mask(load_file(folder / "mask.safetensors"))
        mask.attach(optimizer, model)
    losses: list[float] = []
    rates: list[float] = []
    states: dict[int, dict[str, Tensor]] = {}

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        value = F.cross_entropy(logits, labels)
        losses.append(value.item())
        rates.append(optimizer.param_groups[0]["lr"])
        return value

    def keep(step: Step) -> None:
        states[step.iteration] = {key: value.clone() for key, value in model.state_dict().items()}

    images = inputs["x"].to(dtype).contiguous(memory_format=memory_format)
    batches = ConsecutiveBatches(images, inputs["y"], options["batch_size"], epoch_length)
    schedule = learning_rate(hparams, epoch_length)

    train(
        model, optimizer, batches, loss, schedule, Step(0, epoch_length), Step(options["steps"], epoch_length), [keep]
    )

    noise = case["float32_noise_measured"]
    assert rates == pytest.approx(case["lr_per_step"], rel=1e-12)
    assert losses == pytest.approx(case["loss_per_step"], abs=max(1e-6, 10 * noise["max_abs_loss_difference"]))
    for step, weight_noise in noise["max_abs_weight_difference"].items():
        expected = load_file(folder / f"weights_step{step}.safetensors")
        found = states[int(step)]
        assert set(found) == set(expected)
        for key, tensor in expected.items():
            tolerance = {"rtol": 1e-6, "atol": max(1e-6, 10 * weight_noise)}
            torch.testing.assert_close({key: found[key].to(tensor.dtype)}, {key: tensor}, **tolerance)
        for key, kept in (mask or {}).items():
            assert torch.equal(found[key] != 0, (found[key] != 0) & kept)


def test_in_double_precision_a_training_is_the_same_in_either_memory_format() -> None:
    def losses(memory_format: torch.memory_format) -> list[float]:
        source = torch.Generator().manual_seed(0)
        images = torch.randn(30, 3, 12, 12, generator=source, dtype=torch.float64)
        hparams = ModelHparams(model_name="cifar_resnet_8_4")
        model = build_model(hparams, outputs=10, inputs=Inputs((3, 12, 12)), seed_keys=(1,))
        model.to(torch.float64).to(memory_format=memory_format)
        batches = ConsecutiveBatches(
            images.contiguous(memory_format=memory_format), torch.arange(30) % 10, batch_size=6, batches_per_epoch=5
        )
        found: list[float] = []

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            found.append((value := F.cross_entropy(logits, labels)).item())
            return value

        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
        train(model, optimizer, batches, loss, lambda _: 0.03, Step(0, 5), Step(5, 5))
        return found

    default, channels_last = losses(torch.contiguous_format), losses(torch.channels_last)

    assert len(set(default)) == 5
    assert channels_last == pytest.approx(default, rel=1e-12)


def a_training(
    callbacks: Sequence[Callable[[nn.Linear], Callback]], start: int = 0, end: int = 7, epoch_length: int = 3
) -> nn.Linear:
    model = nn.Linear(2, 2)
    images, labels = torch.randn(12, 2), torch.zeros(12, dtype=torch.long)
    batches = ConsecutiveBatches(images, labels, 1, epoch_length)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    train(
        model,
        optimizer,
        batches,
        F.cross_entropy,
        lambda _: 0.1,
        Step(start, epoch_length),
        Step(end, epoch_length),
        [callback(model) for callback in callbacks],
    )
    return model


def test_callbacks_see_every_step_from_first_to_last() -> None:
    seen: list[Step] = []

    a_training([lambda _model: seen.append], start=2, end=7)

    assert [step.iteration for step in seen] == [2, 3, 4, 5, 6, 7]


def test_callbacks_are_called_in_order_before_the_update_of_their_step() -> None:
    calls: list[tuple[str, int]] = []
    weights: list[Tensor] = []

    def first(model: nn.Linear) -> Callback:
        def called(step: Step) -> None:
            calls.append(("first", step.iteration))
            weights.append(model.weight.detach().clone())

        return called

    model = a_training([first, lambda _model: lambda step: calls.append(("second", step.iteration))], end=2)

    assert calls == [(name, iteration) for iteration in range(3) for name in ("first", "second")]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[2], model.weight)


def test_a_training_without_iterations_only_calls_back() -> None:
    seen: list[Step] = []

    a_training([lambda _model: seen.append], start=3, end=3)

    assert [step.iteration for step in seen] == [3]


def test_batches_go_on_from_the_middle_of_an_epoch() -> None:
    requests: list[tuple[int, int]] = []

    class RecordingBatches(ConsecutiveBatches):
        def train_batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
            requests.append((epoch, first))
            return super().train_batches(epoch, first)

    model = nn.Linear(2, 2)
    batches = RecordingBatches(torch.randn(12, 2), torch.zeros(12, dtype=torch.long), 1, 3)
    optimizer = torch.optim.SGD(model.parameters())
    train(model, optimizer, batches, F.cross_entropy, lambda _: 0.1, Step(4, 3), Step(9, 3))

    assert requests == [(1, 1), (2, 0)]
