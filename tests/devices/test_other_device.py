"""Jobs on a device that is not the CPU: results are those on the CPU, and the loop does not wait for the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.measures.inputs import Measuring
from analysis.measures.registry import MEASURES
from analysis.rows.run import StoredRun, open_run
from datasets.prepared import ensure_prepared
from foundations.description.desc import Desc
from foundations.metrics import Metrics
from foundations.storage import tensor_files
from foundations.storage.run import METRICS, Run
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.registry import METHODS
from tests.analysis.conftest import Family, family  # noqa: F401
from tests.devices.simulated import DEVICE, OnDevice, simulated_device
from tests.training.small_runs import context, oneshot_desc, train_desc
from training.desc import TrainDesc
from training.job import initialized_model
from training.jobs.compute import complete
from training.jobs.together import Stack
from training.loop.trainer import Trainer
from training.sparse import sparse

MOVES = {"start_density": 0.3, "mask_update_frequency": "2it"}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adamw": {"optimizer_name": "adamw", "nesterov_momentum": None},
    "clipped": {"clip_grad_norm": 0.5},
    "accumulated": {"accumulate": 2},
    "mixed": {"mixup": 0.5, "cutmix": 0.5},
    "rigl, drawn values": {"technique": "rigl", "grow_init": "random_normal", **MOVES},
    "dropout": {"dropout": 0.2},
    "edge_popup, global": {"technique": "edge_popup", "edge_popup_scope": "global"},
}
ACTS_AT_UPDATES = {"rigl, drawn values"}
"""Its updates of the mask read the weights on the host."""
NETWORKS = {
    "mlp_8": "breast_cancer",
    "mlp_16": "diabetes",
    "vit_1_16_4": "digits",
    "mixer_1_16_4": "digits",
    "digits_resnet_8_4": "digits",
    "gpt_1_16_2": "modular_arithmetic",
}
MODULUS = 17
SLOW = {**dict.fromkeys(("llama_1_16_2", "encoder_1_16_2", "lstm_1_16"), "modular_arithmetic"), "gru_1_8": "kjv"}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    for name in {*NETWORKS.values(), *SLOW.values(), f"modular_arithmetic_{MODULUS}_plus_0.5_0"}:
        ensure_prepared(name, folder, allow_download=False, report=print)
    return folder


def computed(desc: Desc, root: Path, datasets: Path, platform: OnDevice | None) -> Run:
    place = context(root, datasets, evaluate_only_at_end=True)
    return complete(desc, place if platform is None else replace(place, platform=platform)).run


def tensors(run: Run) -> dict[str, dict[str, Tensor]]:
    return {path.name: tensor_files.read(path, "")[0] for path in sorted(run.folder.glob("*.safetensors"))}


def compare(there: Run, here: Run) -> None:
    """Compare states, masks and metrics of two runs, up to rounding."""
    found, expected = tensors(there), tensors(here)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    metrics = [Metrics.from_csv((run.folder / METRICS).read_text()) for run in (there, here)]
    assert metrics[0].names() == metrics[1].names()
    for name in metrics[1].names():
        assert metrics[0].last(name) == pytest.approx(metrics[1].last(name), rel=1e-4)


def waits(desc: Desc, root: Path, datasets: Path) -> Counter[str]:
    platform = OnDevice()
    computed(desc, root, datasets, platform)
    return Counter(platform.waits)


@pytest.mark.parametrize("name", OPTIONS)
def test_training_there_is_as_on_the_cpu_and_steps_do_not_wait(name: str, tmp_path: Path, datasets: Path) -> None:
    def desc(steps: int) -> TrainDesc:
        values = {"batch_size": 64, "training_steps": f"{steps}it", **OPTIONS[name]}
        model = "vit_1_16_4" if name == "dropout" else "digits_lenet_16"
        return train_desc(**{"model_name": model, **{key: v for key, v in values.items() if v is not None}})

    platform = OnDevice()
    there = computed(desc(6), tmp_path / "there", datasets, platform)
    compare(there, computed(desc(6), tmp_path / "here", datasets, None))
    if name not in ACTS_AT_UPDATES:
        assert Counter(platform.waits) == waits(desc(3), tmp_path / "short", datasets)


@pytest.mark.parametrize("model_name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_networks_and_tasks_there_are_as_on_the_cpu(model_name: str, tmp_path: Path, datasets: Path) -> None:
    def desc(steps: int) -> TrainDesc:
        values = {"dataset_name": (NETWORKS | SLOW)[model_name], "model_name": model_name, "batch_size": 32, "lr": 0.05}
        if values["dataset_name"] == "modular_arithmetic":
            values["modulus"] = MODULUS
        return TrainDesc.of(values | {"training_steps": f"{steps}it"})

    platform = OnDevice()
    there = computed(desc(4), tmp_path / "there", datasets, platform)
    compare(there, computed(desc(4), tmp_path / "here", datasets, None))
    assert Counter(platform.waits) == waits(desc(2), tmp_path / "short", datasets)


@pytest.mark.parametrize("method", [method.known_names[-1] for method in METHODS])
def test_masks_there_are_those_on_the_cpu(method: str, tmp_path: Path, datasets: Path) -> None:
    desc = oneshot_desc(
        method, prune_step="0it", density=0.3, parent={"model_name": "synflow_conv", "training_steps": "0it"}
    )
    compare(
        computed(desc, tmp_path / "there", datasets, OnDevice()),
        computed(desc, tmp_path / "here", datasets, None),
    )


@pytest.mark.parametrize("model_name", ["digits_lenet_16", "digits_resnet_8_4"])
def test_stacked_networks_there_are_as_alone_and_do_not_wait(model_name: str, tmp_path: Path, datasets: Path) -> None:
    def states(platform: OnDevice | None) -> tuple[list[dict[str, Tensor]], int]:
        place = context(tmp_path, datasets)
        place = place if platform is None else replace(place, platform=platform)
        trainers = []
        for replicate in range(2):
            desc = train_desc(model_name=model_name, batch_size=32)
            trainer = Trainer(initialized_model(desc, replicate), desc, place, place.platform, replicate)
            trainer.prepare(None, desc.start)
            trainers.append(trainer)
        stack, orders = Stack(trainers), [trainer.loader.train_batches(0) for trainer in trainers]
        batches = [[next(order) for order in orders] for _ in range(3)]
        noted = len(platform_waits)
        for each in batches:
            stack.compute_gradients(each)
            for trainer in trainers:
                trainer.optimizer.step()
        during = len(platform_waits) - noted
        return [{n: t.cpu() for n, t in trainer.model.state_dict().items()} for trainer in trainers], during

    with simulated_device() as platform_waits:
        there, waited = states(OnDevice())
    here, _ = states(None)
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)
    assert waited == 0


NEEDS_CONVOLUTIONS = ("filter_zero_rates", "kernel_maps")
NEEDS_TWO_ORDERS = ("sgd_stability",)
SLOW_MEASURES = ("synaptic_flow_ratio",)


@pytest.fixture(scope="module")
def runs_of(family: Family) -> Callable[[str], list[StoredRun]]:  # noqa: F811
    def found(measure: str) -> list[StoredRun]:
        small = {"model_name": "synflow_conv", "training_steps": "1it"}
        if measure in NEEDS_CONVOLUTIONS:
            runs = [complete(oneshot_desc(density=0.2, parent=small), family.context).run]
        elif measure in NEEDS_TWO_ORDERS:
            orders = [train_desc(data_order_seed=seed, training_steps="2it") for seed in (1, 2)]
            runs = [complete(desc, family.context).run for desc in orders]
        else:
            runs = [family.branch] if MEASURES.find(measure).takes == "one run" else list(family.levels)
        return [open_run(str(run), family.root, family.datasets) for run in runs]

    return found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each.spelling, marks=pytest.mark.slow) if each.spelling in SLOW_MEASURES else each.spelling
        for each in MEASURES
    ],
)
def test_measures_there_are_as_on_the_cpu(
    name: str,
    family: Family,  # noqa: F811
    runs_of: Callable[[str], list[StoredRun]],
) -> None:
    measure, runs = MEASURES.find(name), runs_of(name)

    def values(platform: OnDevice | None) -> dict[str, Any]:
        place = family.context if platform is None else replace(family.context, platform=platform)
        measuring = Measuring(place)
        options = measure.options.of({}).simplified()
        opened = [measuring.opened(run) for run in runs]
        result = place.platform.launch(lambda _: measure.compute(measuring, options, *opened))
        return {**result.values, **result.table}

    there, here = values(OnDevice()), values(None)
    assert there.keys() == here.keys()
    for key, expected in here.items():
        is_text = isinstance(expected, list) and any(isinstance(entry, str) for entry in expected)
        assert there[key] == (expected if is_text else pytest.approx(expected, rel=1e-3, abs=1e-5, nan_ok=True)), key


@pytest.mark.parametrize("technique", ["rigl", "gmp", None])
def test_the_library_prunes_and_trains_a_network_there(technique: str | None) -> None:
    def trained(device: torch.device) -> tuple[Mask, list[Tensor]]:
        torch.manual_seed(0)
        x, y = torch.randn(40, 8), torch.arange(40) % 4
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        model.to(device)
        x, y = x.to(device), y.to(device)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        mask = prune(model, "snip10", density=0.5, examples=(x, y))
        loop = sparse(optimizer, model, technique, end=6, **_of(technique, mask))
        for _ in range(6):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        final = loop.mask
        assert final is not None
        return final, [parameter.detach().cpu() for parameter in model.parameters()]

    with simulated_device():
        there, weights = trained(DEVICE)
    here, expected = trained(torch.device("cpu"))
    assert there == here
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


def _of(technique: str | None, mask: Mask) -> dict[str, Any]:
    if technique == "rigl":
        return {"mask": mask, "mask_update_frequency": 2}
    return {"density": 0.2, "gmp_frequency": 2} if technique == "gmp" else {"mask": mask}
