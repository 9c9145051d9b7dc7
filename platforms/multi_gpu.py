"""The platform for one job in several processes of this machine: one on each GPU, or some that share the CPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.errors import EnvironmentFailure, UsageError
from foundations.registry import loaded_plugins
from platforms.local import LocalPlatform
from platforms.platform import Platform, PlatformHparams, PlatformKind, Result

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class MultiGpuHparams(PlatformHparams):
    """The platform, which runs the job. Not part of a run's address."""

    num_processes: int | None = hparam(None, at_least=1)
    """Processes that share each batch; by default as many as there are GPUs, one on each. More than one on CPUs must be
    asked for. Batch normalization sees the examples of its process only, unless --sync_batchnorm is given."""


class MultiGpuPlatform(LocalPlatform):
    """Runs the job in several processes, which split each batch."""

    _hparams: MultiGpuHparams

    def __init__(self, hparams: MultiGpuHparams) -> None:
        if hparams.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"'{hparams.device}' is not a valid value; choose from auto, cpu, cuda.", "device")
        super().__init__(hparams)

    def launch(self, job: Callable[[Platform], Result]) -> Result:
        """Run the job, which must be picklable, in all processes; return the primary process's result.

        Raises: the job's error; EnvironmentFailure if a process was killed, within seconds.
        """
        count, kind = self.processes, self.device.type
        if count == 1:
            return super().launch(job)
        import tempfile

        import torch

        from platforms.processes import Packed, Processes  # imported here: listings start faster without them
        from platforms.rank import Rank

        threads = max(1, (self._hparams.threads or torch.get_num_threads()) // count)
        with tempfile.TemporaryDirectory(prefix="open_prune_") as folder:
            ranks = [
                Rank(
                    number,
                    count,
                    f"cuda:{number}" if kind == "cuda" else kind,
                    threads,
                    f"{folder}/store",
                    tuple(plugin.path for plugin in loaded_plugins()),
                )
                for number in range(count)
            ]
            return Processes(ranks, Packed(job, self)).result()  # type: ignore[no-any-return]

    @property
    def processes(self) -> int:
        """The number of processes. Raises: UsageError; EnvironmentFailure if there are too few GPUs."""
        import torch

        asked = self._hparams.num_processes
        if self.device.type != "cuda":
            if asked is None:
                raise UsageError("no GPU was found, so give the number of processes.", "num_processes")
            return asked
        found = torch.cuda.device_count()
        if asked is not None and asked > found:
            raise EnvironmentFailure(f"There are {found} GPUs here for {asked} processes. Choose fewer processes.")
        return asked or found


MULTI_GPU = PlatformKind(
    spelling="multi_gpu",
    make=MultiGpuPlatform,
    runs="in several processes that split each batch, one on each GPU, or some on CPUs",
    hparams=MultiGpuHparams,
    splits_batches=True,
)
