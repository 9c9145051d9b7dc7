from __future__ import annotations

import platform
import subprocess
import sys
from typing import Any

import pytest
import torch

from foundations.errors import EnvironmentFailure, UsageError
from foundations.inputs import Inputs
from models.build import build_model
from models.hparams import ModelHparams
from platforms.local import LocalPlatform
from platforms.memory_format import memory_format
from platforms.platform import PLATFORMS, PlatformHparams, make_platform
from tests.conftest import REPOSITORY


def local(**hparams: Any) -> LocalPlatform:
    return LocalPlatform(PlatformHparams(**hparams))


def test_a_job_is_handed_the_platform_and_its_result_comes_back() -> None:
    platform = local(device="cpu")

    assert platform.launch(lambda platform: (platform, 7)) == (platform, 7)


def test_one_process_is_the_primary_of_one() -> None:
    platform = local()

    assert (platform.rank, platform.world_size, platform.is_primary) == (0, 1, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_leaves_torch_as_it_was() -> None:
    threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic

    with pytest.raises(EnvironmentFailure, match="There is no device cuda here"):
        local(device="cuda", threads=threads + 1).launch(lambda _: None)

    assert (torch.get_num_threads(), torch.backends.cudnn.deterministic) == (threads, deterministic)


def test_auto_is_the_best_device_that_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"

    assert local(device="auto").device.type == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "cpu:0", ""])
def test_an_impossible_device_is_refused_with_what_is_possible(device: str) -> None:
    with pytest.raises(UsageError, match=r"^device: .* is not a valid value; choose from auto, cpu, cuda, cuda:N"):
        local(device=device)


def test_a_device_that_is_not_there_is_a_failure_of_the_environment_that_says_what_is_there() -> None:
    with pytest.raises(EnvironmentFailure, match=r"no device cuda:99 here; found 1 cpu"):
        local(device="cuda:99").device  # noqa: B018


def test_deterministic_kernels_without_tf32_are_chosen_inside_the_job_only() -> None:
    def chosen(_: object = None) -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32

    before = chosen()
    inside = local(device="cpu").launch(chosen)

    assert inside == (True, False, False)
    assert chosen() == before


@pytest.mark.parametrize(
    ("capability", "expected"), [("AVX512", torch.channels_last), ("AVX2", torch.contiguous_format)]
)
def test_images_on_a_cpu_are_channels_last_only_where_that_is_safe(
    monkeypatch: pytest.MonkeyPatch, capability: str, expected: torch.memory_format
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    assert local(device="cpu").memory_format("float32") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar_resnet_8_4", torch.contiguous_format),
        ("cifar_resnet_8", torch.channels_last),
        ("cifar_vgg_11", torch.channels_last),
    ],
)
def test_networks_with_narrow_shortcuts_are_not_channels_last_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: torch.memory_format
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    model = build_model(ModelHparams(model_name=name), outputs=10, inputs=Inputs((3, 32, 32)), seed_keys=(1,))

    assert local(device="cpu").memory_format("float32", model) == expected


@pytest.mark.parametrize(("layer", "expected"), [("Conv3d", torch.contiguous_format), ("Conv2d", torch.channels_last)])
def test_networks_of_volumes_keep_the_default_layout_on_every_device(
    monkeypatch: pytest.MonkeyPatch, layer: str, expected: torch.memory_format
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    model = torch.nn.Sequential(getattr(torch.nn, layer)(1, 16, 3))

    for device, precision in (("cpu", "float32"), ("cuda", "bf16")):
        assert memory_format(torch.device(device), precision, model) == expected
    model.to(memory_format=local(device="cpu").memory_format("float32", model))


def test_the_device_is_described_in_words() -> None:
    assert local(device="cpu").describe() == f"cpu ({torch.get_num_threads()} threads)"


def test_platforms_are_found_by_name() -> None:
    assert isinstance(make_platform(PlatformHparams(platform="local")), LocalPlatform)


def test_an_unknown_platform_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        UsageError, match=r"platform: 'locl' is not a valid value\. Did you mean 'local'\? Choose from local"
    ):
        make_platform(PlatformHparams(platform="locl"))


def test_every_platform_says_in_a_line_what_it_does() -> None:
    assert all(platform.runs for platform in PLATFORMS)


FAULTS_OF_STEPS = """
import resource, torch
from platforms.platform import PlatformHparams
from platforms.local import LocalPlatform

def step():
    [torch.ones(2**20) for _ in range(8)]  # 4 MiB each, and freed

def steps(_=None):
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(LocalPlatform(PlatformHparams(device="cpu")).launch(steps))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other ways")
def test_memory_that_a_step_frees_on_a_cpu_is_there_for_the_next_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS_OF_STEPS], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert int(done.stdout) < 8_192  # pages of 4 KiB: fewer for all twenty steps than one of them needs
