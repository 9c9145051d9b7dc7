"""The local platform: this process, on a CPU, one GPU or MPS."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from foundations.errors import EnvironmentFailure, UsageError
from platforms.platform import Platform, PlatformHparams, PlatformKind, Result

if TYPE_CHECKING:
    import torch

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?", re.ASCII)


class LocalPlatform(Platform):
    """Runs the job in the calling process."""

    def __init__(self, hparams: PlatformHparams) -> None:
        if not _DEVICE.fullmatch(hparams.device):
            raise UsageError(
                f"'{hparams.device}' is not a valid value; choose from auto, cpu, cuda, cuda:N (a number), mps.",
                "device",
            )
        self._hparams = hparams

    def launch(self, job: Callable[[Platform], Result]) -> Result:
        """Run the job in this process, on deterministic kernels."""
        with prepared(self._hparams.threads, self.device.type):
            return job(self)

    @cached_property
    def device(self) -> torch.device:
        """The requested device, or the best available one. Raises: EnvironmentFailure if it is not available."""
        import torch

        name = self._hparams.device
        if name == "auto":
            if torch.cuda.is_available():
                return torch.device("cuda")
            return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
        device = torch.device(name)
        found = {
            "cpu": 1,
            "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
            "mps": int(torch.backends.mps.is_available()),
        }
        if (device.index or 0) >= found[device.type]:
            there = ", ".join(f"{count} {name}" for name, count in found.items() if count)
            raise EnvironmentFailure(f"There is no device {name} here; found {there}. Choose another device.")
        return device


LOCAL = PlatformKind(spelling="local", make=LocalPlatform, runs="in this process, on a CPU, one GPU or MPS")


@contextlib.contextmanager
def prepared(threads: int | None, device: str) -> Iterator[None]:
    """Inside the block, torch uses deterministic kernels and the given number of CPU threads, by default as before.

    Float32 is float32: PyTorch's default lets convolutions on GPUs round their inputs to TF32, in scoring too.
    """
    fix_workspaces()
    import torch

    cudnn, former_threads = torch.backends.cudnn, torch.get_num_threads()
    former = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32)
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = True, False, False
    torch.set_num_threads(threads or former_threads)
    if device == "cpu":
        _keep_freed_memory()
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = former
        torch.set_num_threads(former_threads)


def fix_workspaces() -> None:
    """Let cuBLAS, which reads this when it starts, sum in a fixed order in every run, until the process ends."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next training step, until the process ends.

    By default glibc returns it to the system, which clears it page by page when the next step allocates it: a tenth of
    the time of a step of cifar_resnet_20 or cifar_vgg_16 with batches of 128 (AMD EPYC, 2 cores, n = 3).
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 32 * 2**20)  # the highest possible value
