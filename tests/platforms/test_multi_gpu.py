"""One run in several processes: the same numbers as in one, even if processes fail."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from branches.desc import BranchDesc
from foundations.errors import EnvironmentFailure, UsageError
from foundations.files import sha256_of_file
from foundations.metrics import Metrics
from foundations.storage.run import Run
from platforms.multi_gpu import MultiGpuHparams, MultiGpuPlatform
from platforms.platform import PlatformHparams, make_platform
from pruning.masks.mask import Mask
from tests.cli.terminal import LONG, SHORT, Running, Terminal
from tests.conftest import REPOSITORY
from tests.datasets import published_files as made
from tests.datasets.loading import add
from tests.platforms.in_ranks import compute_all, trained_in_float64
from tests.training.small_runs import context, oneshot_desc, train_desc
from training.desc import TrainDesc

EXAMPLES = REPOSITORY / "examples"
SMALL_LAST_BATCH: dict[str, Any] = {"batch_size": 359, "training_steps": "2ep"}
"""Five iterations an epoch; the last batch has one example, so that all processes but one have none of it."""
WHOLE_BATCHES: dict[str, Any] = {"batch_size": 1437, "training_steps": "4ep"}
"""An epoch is an iteration, so that metrics have the loss of each."""
DESCS: dict[str, TrainDesc | BranchDesc] = {
    "no batchnorm": train_desc(**SMALL_LAST_BATCH),
    "losses of each step": train_desc(**WHOLE_BATCHES),
    "synchronized batchnorm": train_desc(
        model_name="digits_resnet_8_2", sync_batchnorm=True, lr=0.01, **SMALL_LAST_BATCH
    ),
    "losses of each step with synchronized batchnorm": train_desc(
        model_name="digits_resnet_8_2", sync_batchnorm=True, lr=0.01, **WHOLE_BATCHES
    ),
    "snip at initialization": oneshot_desc("snip1", SMALL_LAST_BATCH, density=0.1),
    "gmp by snip": train_desc(
        technique="gmp", gmp_strategy="snip1", gmp_frequency="2it", gmp_density=0.1, **SMALL_LAST_BATCH
    ),
}
"""Descriptions, each computed in one process and in several."""
MORE_DESCS: dict[str, TrainDesc | BranchDesc] = {
    **DESCS,
    "set": train_desc(technique="set", start_density=0.2, mask_update_frequency="2it", **SMALL_LAST_BATCH),
    "rigl": oneshot_desc(
        "random",
        SMALL_LAST_BATCH,
        density=0.3,
        technique="rigl",
        mask_update_frequency="3it",
        mask_update_end="9it",
    ),
    "edge_popup": train_desc(technique="edge_popup", clip_grad_norm=0.1, accumulate=2, **SMALL_LAST_BATCH),
    "gem_miner": train_desc(
        technique="gem_miner", gem_miner_begin="2it", gem_miner_period="2it", gem_miner_density=0.3, **SMALL_LAST_BATCH
    ),
    "gradinit": train_desc(technique="gradinit", gradinit_iters=2, **SMALL_LAST_BATCH),
    "held out examples": train_desc(validation_examples=100, **SMALL_LAST_BATCH),
}


def several(count: int | None = 2, **hparams: Any) -> MultiGpuPlatform:
    return MultiGpuPlatform(MultiGpuHparams(platform="multi_gpu", num_processes=count, device="cpu", **hparams))


@pytest.fixture
def terminal(tmp_path: Path, digits: Path) -> Terminal:
    """An empty root."""
    return Terminal(tmp_path / "root", digits)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A root with the runs of one process."""
    root = tmp_path_factory.mktemp("alone")
    compute_all(list(DESCS.values()), root, digits, context(root, digits).platform)
    return root


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A root with the runs of two processes."""
    root = tmp_path_factory.mktemp("together")
    several().launch(partial(compute_all, list(DESCS.values()), root, digits))
    return root


def assert_alike(desc: TrainDesc | BranchDesc, one: Path, other: Path, tolerance: float) -> None:
    """Assert that two roots have the same states at every step, metrics and mask of a run."""
    run, compared = (Run(root, desc.location(1)) for root in (one, other))
    assert (compared.read_manifest() or run.read_manifest()) is not None
    found, expected = compared.metrics().values, run.metrics().values
    assert found == pytest.approx(expected, abs=tolerance)
    assert {key: value for key, value in found.items() if key[0] == "test_accuracy"} == {
        key: value for key, value in expected.items() if key[0] == "test_accuracy"
    }
    for step in run.kept_states(desc.iterations_per_epoch):
        mine, its = run.load_state(step), compared.load_state(step)
        for name in mine:
            torch.testing.assert_close(its[name], mine[name], atol=tolerance, rtol=tolerance, msg=f"{name} at {step}")
    assert run.has_mask() == compared.has_mask()
    if run.has_mask():
        assert Mask.from_tensors(*run.load_mask()) == Mask.from_tensors(*compared.load_mask())


@pytest.mark.parametrize("name", DESCS)
def test_two_processes_do_what_one_does(alone: Path, together: Path, name: str) -> None:
    assert_alike(DESCS[name], alone, together, 1e-4 if "synchronized" in name else 1e-5)


@pytest.mark.parametrize(
    "flags",
    [
        {"optimizer_name": "adamw", "lr": 0.01, "clip_grad_norm": 0.1, "accumulate": 3, "no_decay": "biases"},
        {"mixup": 0.8, "cutmix": 1.0, "technique": "ema", "ema_decay": 0.8, "lr_schedule": "linear"},
        {"technique": "edge_popup", "clip_grad_norm": 0.1, "accumulate": 2},
        {
            "technique": "gem_miner",
            "gem_miner_begin": "2it",
            "gem_miner_period": "2it",
            "learned_mask_train_rest": True,
            "model_name": "digits_resnet_8_2",
            "sync_batchnorm": True,
        },
        {
            "technique": "interpolated_norm,cyclic,early_bird",
            "cycles": 2,
            "early_bird_threshold": 1.0,
            "early_bird_masks": 3,
            "early_bird_frequency": "3it",
            "model_name": "digits_resnet_8_2",
            "sync_batchnorm": True,
        },
    ],
    ids=["clipped in parts", "average of mixed", "edge-popup in parts", "gem-miner with scales", "tickets"],
)
def test_options_of_training_give_the_same_in_two_processes(
    flags: dict[str, Any], tmp_path: Path, digits: Path
) -> None:
    train = partial(trained_in_float64, train_desc(**SMALL_LAST_BATCH, **flags), tmp_path, digits)

    one, two = train(context(tmp_path, digits).platform), several().launch(train)

    for name, values in one.items():
        torch.testing.assert_close(
            torch.tensor(two[name], dtype=torch.float64),
            torch.tensor(values, dtype=torch.float64),
            rtol=1e-10,
            atol=1e-12,
        )


@pytest.mark.slow
def test_four_processes_do_what_one_does(alone: Path, tmp_path: Path, digits: Path) -> None:
    more = [desc for name, desc in MORE_DESCS.items() if name not in DESCS]
    compute_all(more, alone, digits, context(alone, digits).platform)

    devices = several(4).launch(partial(compute_all, list(MORE_DESCS.values()), tmp_path, digits))

    assert devices
    assert all(device.endswith("4 processes") for device in devices)
    for name, desc in MORE_DESCS.items():
        assert_alike(desc, alone, tmp_path, 1e-4 if "synchronized" in name else 1e-5)


TWO = ("--platform=multi_gpu", "--num_processes=2", "--device=cpu")
FOUR = ("--platform=multi_gpu", "--num_processes=4", "--device=cpu")


def ranks_of(running: Running) -> list[int]:
    """Return the process ids of the ranks of a command, in their order."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except (OSError, ProcessLookupError):
            continue
        if parent == running.process.pid and "resource_tracker" not in command:
            found.append(int(folder.name))
    return sorted(found)


def start_until_checkpoint(terminal: Terminal, *flags: str) -> Running:
    """Start a long training, and return it when it has a checkpoint."""
    running = terminal.start("train", *LONG, *flags)
    deadline = time.monotonic() + 60
    while not list(terminal.root.rglob("checkpoint.safetensors")):
        assert time.monotonic() < deadline, running.output()
        assert running.process.is_alive(), running.output()
        time.sleep(0.02)
    return running


def digests_of(root: Path) -> dict[str, str]:
    """Return the SHA-256 of the states and metrics under a root."""
    paths = [path for pattern in ("*.safetensors", "metrics.csv") for path in root.rglob(pattern)]
    return {str(path.relative_to(root)): sha256_of_file(path) for path in paths}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_ended_by_kill(running: Running, ranks: list[int], number: int) -> None:
    before = time.monotonic()
    result = running.result()
    result.assert_is_for_people(
        1, f"Process {number} of the {len(ranks)}", "SIGKILL", "continues from the last checkpoint"
    )
    assert time.monotonic() - before < 8
    assert not any(map(is_alive, ranks))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_process_ends_the_run_which_one_process_finishes(terminal: Terminal) -> None:
    running = start_until_checkpoint(terminal, *TWO)
    ranks = ranks_of(running)
    assert len(ranks) == 2

    os.kill(ranks[1], signal.SIGKILL)

    assert_ended_by_kill(running, ranks, 1)
    finished = terminal.run("train", *LONG)
    assert finished.code == 0, finished.err
    assert "Resuming" in finished.out
    assert "test accuracy" in finished.out


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "number"), [(TWO, 0), (FOUR, 2)])
def test_a_run_of_several_processes_resumes_after_any_of_them_was_killed(
    terminal: Terminal, flags: tuple[str, ...], number: int, tmp_path: Path
) -> None:
    running = start_until_checkpoint(terminal, *flags)
    ranks = ranks_of(running)
    os.kill(ranks[number], signal.SIGKILL)
    assert_ended_by_kill(running, ranks, number)

    finished = terminal.run("train", *LONG, *flags)

    assert finished.code == 0, finished.err
    assert "Resuming" in finished.out
    whole = Terminal(tmp_path / "whole", terminal.datasets)
    assert whole.run("train", *LONG, *flags).code == 0
    assert digests_of(whole.root) == digests_of(terminal.root)


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it(terminal: Terminal) -> None:
    running = start_until_checkpoint(terminal, *TWO)
    ranks = ranks_of(running)

    running.kill()

    deadline = time.monotonic() + 5
    while any(map(is_alive, ranks)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert terminal.run("train", *LONG).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_checkpoints(terminal: Terminal, number: int) -> None:
    running = start_until_checkpoint(terminal, *TWO)
    for pid in ranks_of(running):  # as a terminal does
        os.kill(pid, number)
    running.signal(number)

    result = running.result()

    result.assert_is_for_people(128 + number, "Checkpoint at step", "the same command continues from there")
    finished = terminal.run("train", *LONG)
    assert finished.code == 0, finished.err
    assert "Resuming" in finished.out


@pytest.mark.slow
def test_a_run_that_one_process_began_several_finish(terminal: Terminal) -> None:
    running = start_until_checkpoint(terminal)
    running.signal(signal.SIGTERM)
    assert running.result().code == 128 + signal.SIGTERM

    finished = terminal.run("train", *LONG, *TWO)

    assert finished.code == 0, finished.err
    assert "Resuming" in finished.out


@pytest.mark.parametrize("device", ["mps", "cuda:1", "gpu"])
def test_a_device_that_several_processes_cannot_share_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match=r"device: .* choose from auto, cpu, cuda\."):
        MultiGpuPlatform(MultiGpuHparams(platform="multi_gpu", device=device))


def test_one_process_does_the_job_where_it_is_called() -> None:
    here: list[int] = []

    several(1).launch(lambda platform: here.append(platform.world_size))

    assert here == [1]


def test_without_gpus_the_number_of_processes_must_be_given() -> None:
    with pytest.raises(UsageError, match="num_processes: no GPU was found"):
        several(None).launch(print)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpus_that_are_not_there_are_a_failure_of_the_environment() -> None:
    platform = MultiGpuPlatform(MultiGpuHparams(platform="multi_gpu", device="cuda", num_processes=2))

    with pytest.raises(EnvironmentFailure, match="no device cuda here"):
        platform.launch(print)


def test_the_number_of_processes_is_a_flag_of_this_platform_only(terminal: Terminal) -> None:
    assert isinstance(make_platform(PlatformHparams(platform="multi_gpu")), MultiGpuPlatform)
    terminal.run("train", "--num_processes=2").assert_is_for_people(2, "--num_processes", "--platform=multi_gpu")
    assert "--num_processes" in terminal.run("train", "--platform=multi_gpu", "--help").out
    assert "--num_processes" not in terminal.run("train", "--help").out


@pytest.mark.slow
def test_streamed_images_train_as_in_one_process(tmp_path: Path) -> None:
    made.write_image_folders(tmp_path / "p" / "train", ["a", "b", "c"], 7, size=(50, 70))
    made.write_image_folders(tmp_path / "p" / "test", ["a", "b", "c"], 2, size=(60, 60), seed=9000)
    add(tmp_path, tmp_path / "p", in_memory=False, image_size=32, augmentation="resized_crop_flip")
    one, other = (Terminal(tmp_path / name, tmp_path / "datasets") for name in ("one", "other"))
    data = ("--dataset_name=mine", "--batch_size=4", "--num_workers=1")  # the last batch of an epoch has one image
    job = ("train", *data, "--model_name=mnist_lenet_16", "--training_steps=2ep", "--lr=0.01")

    for terminal, flags in ((one, ()), (other, TWO)):
        result = terminal.run(*job, *flags)
        assert result.code == 0, result.err

    (mine,), (its,) = (list(terminal.root.rglob("metrics.csv")) for terminal in (one, other))
    expected = Metrics.from_csv(mine.read_text()).values
    assert Metrics.from_csv(its.read_text()).values == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_plug_ins_are_known_in_every_process(terminal: Terminal) -> None:
    flags = (*SHORT, "--strategy=fan_in_magnitude", "--density=0.3", f"--plugin={EXAMPLES / 'my_method.py'}", *TWO)

    result = terminal.run("branch", "train", "oneshot", *flags)

    assert result.code == 0, result.err
    assert "sparsity:" in result.out


@pytest.mark.slow
def test_a_job_that_is_refused_is_refused_as_in_one_process(terminal: Terminal) -> None:
    flags = (*SHORT, "--others_frozen", "--others_frozen_exceptions=fc.wight")

    alone, together = (terminal.run("train", *flags, *more) for more in ((), TWO))

    together.assert_is_for_people(2, "--others_frozen_exceptions", "Did you mean")
    assert together.err == alone.err
    assert not list(terminal.root.rglob("description.json"))
