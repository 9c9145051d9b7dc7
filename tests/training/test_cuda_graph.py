"""Passes that are recorded and replayed. What a GPU does is played by a recorder that computes again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.small_runs import context, train_desc
from training.job import initialized_model
from training.jobs.together import Stack
from training.loop.cuda_graph import Replayed, record_on_cuda
from training.loop.trainer import Trainer

STEPS = 10
"""Steps of training; an epoch has 6 batches, and the last one is smaller."""


class Recorder:
    """Records as a GPU does: outputs and gradients are always the same tensors, and have no values at first."""

    def __init__(self) -> None:
        self.parameters: list[Tensor] = []
        """Parameters that the work puts gradients into."""
        self.recorded = self.replayed = 0

    def __call__(self, work: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
        self.recorded += 1
        outputs = [output.fill_(float("nan")) for output in work()]
        gradients = [parameter.grad for parameter in self.parameters]

        def replay() -> None:
            self.replayed += 1
            for parameter in self.parameters:
                parameter.grad = None
            for output, value in zip(outputs, work(), strict=True):
                output.copy_(value)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                assert parameter.grad is not None
                assert gradient is not None
                gradient.copy_(parameter.grad)
                parameter.grad = None

        return outputs, replay


def refuse(work: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
    work()
    raise RuntimeError("operation not permitted when stream is capturing")


def trainer_of(tmp_path: Path, digits: Path, *, replicate: int = 1, **flags: Any) -> Trainer:
    desc, place = train_desc(model_name="digits_resnet_8_4", **flags), context(tmp_path, digits, cuda_graphs=True)
    model = initialized_model(desc, 1, techniques=desc.techniques)
    trainer = Trainer(model, desc, place, place.platform, replicate, techniques=desc.techniques)
    trainer.prepare(None, desc.start)
    trainer.model.train()
    return trainer


def recorded_by(recorder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Use this as the recorder of this machine's device."""
    monkeypatch.setattr("training.loop.trainer.recorder_for", lambda _device: recorder)


def trained(trainer: Trainer, *, first: int = 0, moved_at: int | None = None) -> list[Tensor]:
    """Train some steps from one of the first epoch; return the state, and the sums for the epoch's means."""
    batches = [batch for epoch in range(3) for batch in trainer.loader.train_batches(epoch)][first : first + STEPS]
    for number, batch in enumerate(batches):
        if number == moved_at:
            for parameter in trainer.model.parameters():
                parameter.data = parameter.data.clone()
        trainer.compute_gradients(*batch)
        trainer.optimizer.step()
    return [*trainer.model.state_dict().values(), trainer.epoch.state_dict()["sums"]]


def check_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The recorder of this machine's device."""
    made = Recorder()
    recorded_by(made, monkeypatch)
    return made


def computed(trainer: Trainer) -> Trainer:
    """Let a training compute each pass."""
    assert trainer.recorded is not None
    trainer.recorded = None
    return trainer


def test_a_replayed_training_is_the_same_and_a_smaller_batch_is_computed(
    recorder: Recorder, tmp_path: Path, digits: Path
) -> None:
    trainer = trainer_of(tmp_path, digits, label_smoothing=0.1)
    recorder.parameters = list(trainer.model.parameters())

    check_same(trained(trainer), trained(computed(trainer_of(tmp_path, digits, label_smoothing=0.1))))
    assert (recorder.recorded, recorder.replayed) == (1, STEPS - 1)


def test_mixed_examples_are_replayed_and_steps_in_parts_are_computed(
    recorder: Recorder, tmp_path: Path, digits: Path
) -> None:
    mixed, in_parts = (trainer_of(tmp_path, digits, **flags) for flags in ({"mixup": 0.8}, {"accumulate": 2}))
    recorder.parameters = list(mixed.model.parameters())

    check_same(trained(mixed), trained(computed(trainer_of(tmp_path, digits, mixup=0.8))))
    assert recorder.replayed
    assert in_parts.recorded is None


def test_a_training_that_goes_on_at_the_last_batch_of_an_epoch_records_the_next_larger_one(
    recorder: Recorder, tmp_path: Path, digits: Path
) -> None:
    trainer = trainer_of(tmp_path, digits)
    recorder.parameters = list(trainer.model.parameters())

    check_same(trained(trainer, first=5), trained(computed(trainer_of(tmp_path, digits)), first=5))
    assert (recorder.recorded, recorder.replayed) == (2, STEPS - 1)


def test_a_network_that_moved_is_recorded_anew(recorder: Recorder, tmp_path: Path, digits: Path) -> None:
    trainer = trainer_of(tmp_path, digits)
    recorder.parameters = list(trainer.model.parameters())

    check_same(trained(trainer, moved_at=3), trained(computed(trainer_of(tmp_path, digits))))
    assert recorder.recorded == 2


def test_a_stack_is_recorded_where_its_trainings_are(recorder: Recorder, tmp_path: Path, digits: Path) -> None:
    replayed, plain = ([trainer_of(tmp_path, digits, replicate=number) for number in (1, 2)] for _ in range(2))
    stacks = [Stack(replayed), Stack([computed(trainer) for trainer in plain])]
    recorder.parameters = list(stacks[0].parameters.values())
    orders = [list(trainer.loader.train_batches(0)) for trainer in plain]

    for batches in zip(*orders, strict=True):
        for stack in stacks:
            stack.compute_gradients(batches)
            for trainer in stack.trainers:
                trainer.optimizer.step()

    for trainer, other in zip(replayed, plain, strict=True):
        check_same(list(trainer.model.state_dict().values()), list(other.model.state_dict().values()))
    assert (recorder.recorded, recorder.replayed) == (1, 5)


def test_a_pass_that_cannot_be_recorded_is_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: Path
) -> None:
    recorded_by(refuse, monkeypatch)

    check_same(trained(trainer_of(tmp_path, digits)), trained(computed(trainer_of(tmp_path, digits))))


def test_without_a_gpu_nothing_is_recorded(tmp_path: Path, digits: Path) -> None:
    assert trainer_of(tmp_path, digits).recorded is None


@pytest.mark.parametrize(
    "flags",
    [{"technique": "smoothing"}, {"technique": "soft_activation"}, {"precision": "fp16"}],
    ids=["its loss", "its structure", "its scale"],
)
@pytest.mark.usefixtures("recorder")
def test_a_training_is_not_recorded_where_a_pass_varies_by_more_than_its_tensors(
    flags: dict[str, Any], tmp_path: Path, digits: Path
) -> None:
    assert trainer_of(tmp_path, digits, **flags).recorded is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_records_and_replays_what_it_computes() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()).cuda()
    twin = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()).cuda()
    twin.load_state_dict(model.state_dict())

    def passes(network: torch.nn.Module) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
        def compute(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            value = network(inputs[0]).square().mean()
            value.backward()
            return [value.detach()]

        return compute

    recorded = Replayed(passes(model), list(model.parameters()), list(model.buffers()), record_on_cuda)
    for _ in range(4):
        x = torch.randn(16, 3, 8, 8, device="cuda")
        twin.zero_grad(set_to_none=True)
        assert torch.equal(recorded([x])[0], passes(twin)([x])[0])
        for own, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert own.grad is not None
            assert other.grad is not None
            torch.testing.assert_close(own.grad, other.grad)
    torch.testing.assert_close(model.state_dict(), twin.state_dict())
