import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from foundations.step import Step
from models.build import build_model
from models.hparams import ModelHparams
from pruning.mask import Mask
from training.hparams import TrainingHparams
from training.loop import train
from training.lr_schedule import learning_rate
from training.optimizers import make_optimizer

TRAJECTORIES = (
    "training_lenet_300_100_dense",
    "training_lenet_60_30_masked",
    "training_resnet20_dense",
    "training_resnet20w6_masked",
)


class GivenBatches:
    """Consecutive rows of given examples, whatever the epoch."""

    def __init__(self, images, labels, batch_size, batches_per_epoch):
        self.images, self.labels = images, labels
        self.batch_size, self.batches_per_epoch = batch_size, batches_per_epoch

    def train_batches(self, epoch, first=0):
        for batch in range(first, self.batches_per_epoch):
            begin = (epoch * self.batches_per_epoch + batch) * self.batch_size
            rows = slice(begin, begin + self.batch_size)
            yield self.images[rows], self.labels[rows]


def hparams_of(options, epoch_length):
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
def test_a_training_follows_the_published_trajectory(golden, name, memory_format, dtype):
    # In float32, the kernels of another layout round an activation or two to the other side of zero.
    folder = golden / name
    case = json.loads((folder / "case.json").read_text())
    options, epoch_length = case["options"], case["options"]["iterations_per_epoch"]
    hparams = hparams_of(options, epoch_length)
    start_weights, inputs = load_file(folder / "weights.safetensors"), load_file(folder / "inputs.safetensors")
    model = build_model(
        ModelHparams(model_name=case["model"]["spec"]["openlth_name"]),
        outputs=case["model"]["spec"]["classes"],
        input_shape=tuple(inputs["x"].shape[1:]),
        seed_keys=(1,),
    )
    model.load_state_dict(start_weights)
    model.to(dtype).to(memory_format=memory_format)
    optimizer = make_optimizer(hparams, model.parameters())
    mask = None
    if (folder / "mask.safetensors").exists():
        mask = Mask(load_file(folder / "mask.safetensors"))
        mask.attach(optimizer, model)
    losses, rates, states = [], [], {}

    def loss(logits, labels):
        value = F.cross_entropy(logits, labels)
        losses.append(value.item())
        rates.append(optimizer.param_groups[0]["lr"])
        return value

    def keep(step):
        states[step.iteration] = {key: value.clone() for key, value in model.state_dict().items()}

    images = inputs["x"].to(dtype).contiguous(memory_format=memory_format)
    batches = GivenBatches(images, inputs["y"], options["batch_size"], epoch_length)
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
            torch.testing.assert_close(
                found[key].to(tensor.dtype), tensor, msg=lambda text, key=key: f"{key}: {text}", **tolerance
            )
        for key in mask or ():
            assert torch.equal(found[key] != 0, (found[key] != 0) & mask[key])


def a_training(callbacks, start=0, end=7, epoch_length=3):
    model = nn.Linear(2, 2)
    images, labels = torch.randn(12, 2), torch.zeros(12, dtype=torch.long)
    batches = GivenBatches(images, labels, 1, epoch_length)
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


def test_callbacks_see_every_step_from_first_to_last():
    seen = []

    a_training([lambda _model: seen.append], start=2, end=7)

    assert [step.iteration for step in seen] == [2, 3, 4, 5, 6, 7]


def test_callbacks_are_called_in_order_before_the_update_of_their_step():
    calls, weights = [], []

    def first(model):
        return lambda step: (calls.append(("first", step.iteration)), weights.append(model.weight.detach().clone()))

    model = a_training([first, lambda _model: lambda step: calls.append(("second", step.iteration))], end=2)

    assert calls == [(name, iteration) for iteration in range(3) for name in ("first", "second")]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[2], model.weight)


def test_a_training_without_iterations_only_calls_back():
    seen = []

    a_training([lambda _model: seen.append], start=3, end=3)

    assert [step.iteration for step in seen] == [3]


def test_batches_go_on_from_the_middle_of_an_epoch():
    asked = []

    class Asked(GivenBatches):
        def train_batches(self, epoch, first=0):
            asked.append((epoch, first))
            return super().train_batches(epoch, first)

    model = nn.Linear(2, 2)
    batches = Asked(torch.randn(12, 2), torch.zeros(12, dtype=torch.long), 1, 3)
    optimizer = torch.optim.SGD(model.parameters())
    train(model, optimizer, batches, F.cross_entropy, lambda _: 0.1, Step(4, 3), Step(9, 3))

    assert asked == [(1, 1), (2, 0)]
