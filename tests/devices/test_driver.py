"""Branches of code that only a GPU takes: mixed precision, CUDA graphs, generators, pinned memory, several GPUs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.random_streams import stream_seed
from models.dropout import seed_draws
from platforms.local import LocalPlatform
from platforms.multi_gpu import MultiGpuHparams, MultiGpuPlatform
from platforms.platform import Platform, PlatformHparams, Result
from platforms.rank import Rank, RankPlatform
from pruning.prune import prune
from tests.datasets.image_folders import STREAMED, write_splits
from tests.datasets.loading import add
from tests.devices.simulated import DEVICE, MixedDevices, OnDevice, driver, simulated_device
from tests.training.small_runs import context, train_desc
from training.job import initialized_model
from training.jobs.timing import time_training
from training.jobs.together import Stack
from training.loop.trainer import Trainer

STEPS = 4
State = dict[str, Tensor]


def trainer_of(
    root: Path, datasets: Path, platform: Platform | None, *, replicate: int = 1, graphs: bool = False, **flags: Any
) -> Trainer:
    elsewhere = {} if platform is None else {"platform": platform}
    place = context(root, datasets, cuda_graphs=graphs, num_workers=0, **elsewhere)
    desc = train_desc(**{"batch_size": 64, **flags})
    trainer = Trainer(initialized_model(desc, replicate), desc, place, place.platform, replicate)
    trainer.prepare(None, desc.start)
    trainer.model.train()
    return trainer


def state_of(trainer: Trainer) -> State:
    return {name: tensor.detach().cpu() for name, tensor in trainer.model.state_dict().items()}


def trained(trainer: Trainer, noted: Sequence[str] = ()) -> tuple[State, list[int]]:
    """Train some steps; return the state, and the number of waits in each step."""
    counts = [len(noted)]
    for batch in trainer._steps(trainer.desc.start, trainer.desc.start.at(STEPS), ()):
        trainer.compute_gradients(*batch)
        counts.append(len(noted))
    return state_of(trainer), [after - before for before, after in itertools.pairwise(counts)]


ADAMW = {"optimizer_name": "adamw", "momentum": 0.0, "lr": 1e-3}
RMSPROP = {"optimizer_name": "rmsprop", "lr": 1e-3}
PRECISIONS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "float32": ({"precision": "float32"}, [0, 0]),
    "tf32, clipped": ({"precision": "tf32", "clip_grad_norm": 0.5}, [0, 0]),
    "bf16 with convolutions": ({"precision": "bf16", "model_name": "digits_resnet_8_2"}, [0, 0]),
    "bf16, adamw, a vision transformer": ({"precision": "bf16", "model_name": "vit_1_16_4", **ADAMW}, [0, 0]),
    "fp16": ({"precision": "fp16"}, [0, 0]),
    "fp16, in parts, clipped": ({"precision": "fp16", "accumulate": 2, "clip_grad_norm": 0.5}, [0, 0]),
    "fp16, adamw": ({"precision": "fp16", **ADAMW}, [0, 0]),
    "fp16, rmsprop": ({"precision": "fp16", **RMSPROP}, [1, 1]),
}
"""Flags, and the waits in each later step: PyTorch has no fused RMSprop, so its scaler asks whether to skip a step."""


@pytest.mark.parametrize("name", PRECISIONS)
def test_each_precision_trains_there_as_on_the_cpu_without_waiting(name: str, tmp_path: Path, digits: Path) -> None:
    flags, expected = PRECISIONS[name]
    here, _ = trained(trainer_of(tmp_path, digits, None, **flags))
    with simulated_device() as noted:
        there, waits = trained(trainer_of(tmp_path, digits, OnDevice(), **flags), noted)
        casts = set(driver().casts)

    torch.testing.assert_close(there, here, rtol=2e-2, atol=2e-2)
    assert waits[2:] == expected  # the first step may ask once
    assert casts == {"bf16": {torch.bfloat16}, "fp16": {torch.float16}}.get(flags["precision"], set())


def test_the_optimizer_there_is_fused_and_keeps_its_state_there(tmp_path: Path, digits: Path) -> None:
    with simulated_device():
        trainer = trainer_of(tmp_path, digits, OnDevice())
        trained(trainer)
        assert trainer.optimizer.defaults["fused"]
        assert {tensor.device for state in trainer.optimizer.state.values() for tensor in state.values()} == {DEVICE}


@pytest.mark.parametrize(
    "flags",
    [{}, {"precision": "bf16"}, {"model_name": "digits_resnet_8_2", "label_smoothing": 0.1}, {"mixup": 0.8}],
    ids=["a perceptron", "bf16", "batchnorm", "mixed examples"],
)
def test_a_recorded_training_there_is_as_on_the_cpu_without_waiting(
    flags: dict[str, Any], tmp_path: Path, digits: Path
) -> None:
    here, _ = trained(trainer_of(tmp_path, digits, None, **flags))
    with simulated_device() as noted:
        there, waits = trained(trainer_of(tmp_path, digits, OnDevice(), graphs=True, **flags), noted)
        graphs, streams = driver().graphs, driver().streams

    torch.testing.assert_close(there, here, rtol=1e-2 if "precision" in flags else 1e-5, atol=1e-4)
    assert [graph.replays for graph in graphs] == [STEPS]
    assert graphs[0].operations
    assert streams == ["wait", "begin", "end", "wait"]  # the warm-up has a stream of its own
    assert waits[1:] == [0] * (STEPS - 1)


@pytest.mark.parametrize("flags", [{"precision": "fp16"}, {"accumulate": 2}], ids=["its scale", "its parts"])
def test_a_training_there_whose_passes_vary_is_computed(flags: dict[str, Any], tmp_path: Path, digits: Path) -> None:
    with simulated_device():
        trained(trainer_of(tmp_path, digits, OnDevice(), graphs=True, **flags))
        assert driver().graphs == []


def test_a_pass_that_waits_cannot_be_captured_and_is_computed(tmp_path: Path, digits: Path) -> None:
    def ask(_module: nn.Module, _inputs: Any, outputs: Tensor) -> None:
        assert outputs.sum().item() is not None

    here, _ = trained(trainer_of(tmp_path, digits, None))
    with simulated_device():
        trainer = trainer_of(tmp_path, digits, OnDevice(), graphs=True)
        trainer.model.register_forward_hook(ask)
        there, _ = trained(trainer)
        assert [graph.replays for graph in driver().graphs] == [0]
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)


def test_a_recorded_stack_there_is_as_its_networks_alone(tmp_path: Path, digits: Path) -> None:
    def states(platform: OnDevice | None) -> list[State]:
        trainers = [
            trainer_of(tmp_path, digits, platform, replicate=number, graphs=platform is not None) for number in (1, 2)
        ]
        stack, orders = Stack(trainers), [trainer.loader.train_batches(0) for trainer in trainers]
        for _ in range(STEPS):
            stack.compute_gradients([next(order) for order in orders])
            for trainer in trainers:
                trainer.optimizer.step()
        return [state_of(trainer) for trainer in trainers]

    with simulated_device():
        there = states(OnDevice())
        assert [graph.replays for graph in driver().graphs] == [STEPS]
    torch.testing.assert_close(there, states(None), rtol=1e-5, atol=1e-6)


def test_a_network_that_draws_in_its_functions_draws_from_a_source_of_its_own() -> None:
    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5, self.training)

    with simulated_device():
        model = Drops()
        seed_draws(model)
        model.to(DEVICE)
        before = torch.cuda.get_rng_state(DEVICE)
        for _ in range(2):
            model(torch.ones(3, device=DEVICE))
        first, second = driver().seeded
        assert first != second
        assert torch.equal(torch.cuda.get_rng_state(DEVICE), before)


def test_scoring_seeds_the_generator_there_and_turns_autocast_off() -> None:
    with simulated_device():
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).to(DEVICE)
        x, y = torch.randn(6, 6).to(DEVICE), (torch.arange(6) % 3).to(DEVICE)
        before = torch.cuda.get_rng_state(DEVICE)
        with torch.autocast("cuda", torch.bfloat16):
            inside = prune(model, "snip2", density=0.5, examples=(x, y), seed=3)
        assert stream_seed("scoring", 3) in driver().seeded
        assert torch.equal(torch.cuda.get_rng_state(DEVICE), before)
        assert inside == prune(model, "snip2", density=0.5, examples=(x, y), seed=3)


def test_images_there_have_channels_last_where_tensor_cores_work() -> None:
    formats = {name: OnDevice().memory_format(name) for name in ("float32", "tf32", "bf16", "fp16")}
    assert formats == {"float32": torch.contiguous_format} | dict.fromkeys(
        ("tf32", "bf16", "fp16"), torch.channels_last
    )


def test_timing_waits_until_the_work_is_done() -> None:
    with simulated_device() as noted:
        time_training(train_desc(batch_size=4), OnDevice())
    assert any(note.startswith("synchronize") for note in noted)


def test_streamed_images_are_pinned_and_copied_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    loader_of = torch.utils.data.DataLoader

    def noting(*args: Any, pin_memory: bool, **kwargs: Any) -> Any:
        asked.append(pin_memory)
        return loader_of(*args, **kwargs)

    monkeypatch.setattr("datasets.loading.streaming.DataLoader", noting)
    add(tmp_path, write_splits(tmp_path / "pictures"), **STREAMED)
    flags: dict[str, Any] = {"dataset_name": "mine", "model_name": "synflow_conv", "batch_size": 2}
    here, _ = trained(trainer_of(tmp_path, tmp_path / "datasets", None, **flags))
    with simulated_device() as noted:
        there, waits = trained(trainer_of(tmp_path, tmp_path / "datasets", OnDevice(), **flags), noted)
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)
    assert asked == [False] * (len(asked) // 2) + [True] * (len(asked) // 2)
    assert waits[1:] == [0] * (STEPS - 1)


class OneOfTwo:
    """Rank 0 of two processes, of which the other adds nothing."""

    rank, world_size = 0, 2

    def agree(self, decide: Callable[[], Result]) -> Result:
        return decide()

    def sum_(self, tensor: Tensor) -> None:
        if tensor.device != self.device:  # type: ignore[attr-defined]
            raise MixedDevices("a sum over GPUs of a tensor on the CPU")


class OneOfTwoThere(OneOfTwo, OnDevice):
    """It is on the simulated device."""


class OneOfTwoHere(OneOfTwo, LocalPlatform):
    """It is on the CPU."""


@pytest.mark.parametrize("flags", [{}, {"model_name": "digits_resnet_8_2", "sync_batchnorm": True}, {"accumulate": 2}])
def test_a_process_of_several_trains_and_evaluates_there_as_on_the_cpu(
    flags: dict[str, Any], tmp_path: Path, digits: Path
) -> None:
    def evaluated(trainer: Trainer, noted: Sequence[str] = ()) -> tuple[State, dict[str, float], list[int]]:
        state, waits = trained(trainer, noted)
        return state, trainer._evaluated(trainer.loader.test_batches(), "test"), waits

    state, metrics, _ = evaluated(trainer_of(tmp_path, digits, OneOfTwoHere(PlatformHparams(device="cpu")), **flags))
    with simulated_device() as noted:
        there, found, waits = evaluated(trainer_of(tmp_path, digits, OneOfTwoThere(), **flags), noted)
    torch.testing.assert_close(there, state, rtol=1e-5, atol=1e-6)
    assert found == pytest.approx(metrics, rel=1e-4)
    assert waits[1:] == [0] * (STEPS - 1)


def test_processes_on_gpus_are_connected_by_nccl_and_decide_by_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.update(current=device))
    monkeypatch.setattr(torch.distributed, "FileStore", lambda *_: None)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **rest: asked.update(rest, all=backend)
    )
    monkeypatch.setattr(torch.distributed, "new_group", lambda **rest: asked.update(decisions=rest["backend"]))

    platform = RankPlatform(Rank(1, 2, "cuda:1", 1, "store", ()))

    own = torch.device("cuda", 1)
    assert (platform.device, asked["current"], asked["device_id"]) == (own, own, own)
    assert (asked["all"], asked["decisions"]) == ("cpu:gloo,cuda:nccl", "gloo")


def test_each_process_has_a_gpu_of_its_own_and_no_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    begun: list[Rank] = []

    class Begun:
        def __init__(self, ranks: Sequence[Rank], _job: Any) -> None:
            begun.extend(ranks)

        def result(self) -> str:
            return "done"

    monkeypatch.setattr("platforms.processes.Processes", Begun)
    for asked, devices in ((None, ["cuda:0", "cuda:1", "cuda:2"]), (2, ["cuda:0", "cuda:1"])):
        begun.clear()
        hparams = MultiGpuHparams(platform="multi_gpu", num_processes=asked)
        assert MultiGpuPlatform(hparams).launch(str) == "done"
        assert [rank.device for rank in begun] == devices


def test_the_local_platform_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = {name: LocalPlatform(PlatformHparams(device=name)).device for name in ("auto", "cuda", "cuda:1", "cpu")}
    assert {name: str(device) for name, device in devices.items()} == {
        "auto": "cuda",
        "cuda": "cuda",
        "cuda:1": "cuda:1",
        "cpu": "cpu",
    }
    with simulated_device():
        assert OnDevice().describe() == "cuda (simulated)"
