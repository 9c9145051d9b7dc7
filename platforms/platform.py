"""The interface between platforms and jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from foundations.description.hparams import Hparams, hparam
from foundations.plugins.users_code import returned
from foundations.registry import Registered, Registry
from platforms.memory_format import memory_format

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class PlatformHparams(Hparams):
    """The platform, which runs the job. Not part of a run's address."""

    platform: str = hparam("local")
    """The platform that runs the job; the command `platforms` lists the names."""
    device: str = hparam("auto")
    """auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:N or mps."""
    threads: int | None = hparam(None, at_least=1, at_most=4096)
    """CPU threads; by default as many as torch chooses. Several processes share them."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class with the hyperparameters of the platform. Raises: UsageError for an unknown one."""
        found = PLATFORMS.find(str(values.get("platform", PlatformHparams.platform)))
        return cast("type[Self]", found.hparams)

    @classmethod
    def owners(cls) -> Mapping[str, type[Hparams]]:
        """Return the platforms, and the groups of their hyperparameters."""
        return {f"platform={each.spelling}": each.hparams for each in PLATFORMS}


@dataclass(frozen=True, kw_only=True, eq=False)
class PlatformKind(Registered):
    """A platform by name."""

    make: Callable[[Any], Platform]
    runs: str
    """The place where it runs a job, in a few words."""
    splits_batches: bool = False
    """Whether several processes work on one run."""
    hparams: type[PlatformHparams] = PlatformHparams
    """PlatformHparams, or a subclass with hyperparameters of this platform's own."""


class Platform(ABC):
    """Gives a job its device, its rank and the number of processes, and launches it.

    A job is a function of a platform and must behave the same on each: it takes its part of each batch by `rank` and
    `world_size`, adds up over the processes by `sum_`, and lets only the primary process write files. Only the primary
    process decides what exists already and what to do; the others receive its decisions through `agree`.
    """

    rank: int = 0
    world_size: int = 1

    @abstractmethod
    def launch(self, job: Callable[[Platform], Result]) -> Result:
        """Run the job in all processes of the platform, and return the primary one's result."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of this process."""

    @property
    def processes(self) -> int:
        """The number of processes in which `launch` runs a job."""
        return self.world_size

    @property
    def is_primary(self) -> bool:
        """Whether this process writes files and reports to people."""
        return self.rank == 0

    def memory_format(self, precision: str, model: nn.Module | None = None) -> torch.memory_format:
        """Return the layout of images in memory for a network on the device (see `memory_format`)."""
        return memory_format(self.device, precision, model)

    def agree(self, decide: Callable[[], Result]) -> Result:
        """Return, in every process, the primary one's result of `decide`; the others do not call it.

        Every process must call this, in the same order. The result must be picklable.
        """
        return decide()

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes, in place, with the same bits in each. All must call this."""

    def describe(self) -> str:
        """Return a description of the device, for manifests."""
        import torch

        if self.device.type == "cuda":
            return f"cuda ({torch.cuda.get_device_name(self.device)})"
        if self.device.type == "cpu":
            return f"cpu ({torch.get_num_threads()} threads)"
        return self.device.type


PLATFORMS = Registry(PlatformKind, "platform", ("platforms.local", "platforms.multi_gpu"))
"""The platforms by name."""


def make_platform(hparams: PlatformHparams) -> Platform:
    """Return the platform named by the hyperparameters. Raises: UsageError for an unknown one."""
    found = PLATFORMS.find(hparams.platform)
    return returned(found.make(PlatformHparams.of(hparams.values())), Platform, found.make, found)
