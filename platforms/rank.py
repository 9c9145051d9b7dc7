"""One of the several processes of a job that `platforms.multi_gpu` starts."""

from __future__ import annotations

import _thread
import io
import os
import pickle
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from foundations.errors import Interrupted, OpenPruneError, PluginError
from foundations.interrupts import Interrupts
from foundations.plugins.plugins import load_plugins
from foundations.plugins.users_code import place_of_error, words_of
from foundations.reporter import NullReporter, Reporter
from platforms.local import prepared
from platforms.platform import Platform, Result

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PLATFORM, INTERRUPTS, REPORTER = "platform", "interrupts", "reporter"
"""Fields of the job that each process replaces with its own."""
_STEP_TIMEOUT = timedelta(minutes=30)
"""Time limit of a sum over the processes: all are at the same step, and at most the primary one writes files."""
_DECISION_TIMEOUT = timedelta(days=7)
"""Time limit of the others' wait while only the primary process computes, such as scores. If it dies, they end."""
_SECONDS_BETWEEN_REPORTS = 0.1
Refusal = TypeVar("Refusal", OpenPruneError, Interrupted)


@dataclass(frozen=True)
class Rank:
    """The number of this process, and everything that it needs before it can read its job."""

    number: int
    count: int
    device: str
    threads: int
    store: str
    """A file by which the processes find each other."""
    plugins: tuple[Path, ...]


class RankPlatform(Platform):
    """One of several processes, connected to the others by torch.distributed: NCCL on GPUs, gloo on CPUs."""

    def __init__(self, rank: Rank) -> None:
        """Connect. Every process must do so."""
        import torch
        from torch import distributed

        self.rank, self.world_size = rank.number, rank.count
        self._device = torch.device(rank.device)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        # All are on this machine. Without it, gloo looks for the machine's name in the network.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if self._device.type == "cuda" else "gloo",
            store=distributed.FileStore(rank.store, rank.count),  # type: ignore[attr-defined]
            rank=rank.number,
            world_size=rank.count,
            timeout=_STEP_TIMEOUT,
            device_id=self._device if self._device.type == "cuda" else None,
        )
        self._decisions: Any = distributed.new_group(backend="gloo", timeout=_DECISION_TIMEOUT)

    def launch(self, job: Callable[[Platform], Result]) -> Result:
        """Run the job in this process, as all others do."""
        return job(self)

    @property
    def device(self) -> torch.device:
        """The device of this process: its own GPU, or the CPU."""
        return self._device

    def agree(self, decide: Callable[[], Result]) -> Result:
        """Return the primary process's result of `decide`, in every process."""
        import torch
        from torch import distributed

        decided: list[Any] = [decide() if self.is_primary else None]
        distributed.broadcast_object_list(decided, src=0, group=self._decisions, device=torch.device("cpu"))
        return decided[0]  # type: ignore[no-any-return]

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes."""
        from torch import distributed

        distributed.all_reduce(tensor)

    def describe(self) -> str:
        """Return a description of the device and of the number of processes."""
        return f"{super().describe()}, {self.world_size} processes"


def run_rank(rank: Rank, job: bytes, connection: Connection, work: str) -> None:
    """Run a job as one of several processes; send its reports, and its result or error. For a new process.

    work: the job, for the message about a signal.
    SIGINT and SIGTERM are blocked in it. The process that started it sends the number of a signal to pass on.
    """
    lock = threading.Lock()

    def send(kind: str, content: Any) -> None:
        with lock:
            connection.send((kind, content))

    interrupts = Interrupts(work=work, tell=partial(send, "trains"))
    with interrupts.caught():
        threading.Thread(target=_follow, args=(connection,), daemon=True).start()
        try:
            reporter = _Forwarding(send) if rank.number == 0 else NullReporter()
            send("result", _result(rank, job, interrupts, reporter))
        except (OpenPruneError, Interrupted) as error:
            send("refused", (type(error), error.args, vars(error)))
        except BaseException as error:
            place = place_of_error(error)
            if place:
                failure = PluginError(f"{place}: {words_of(error)}")
                send("refused", (PluginError, failure.args, vars(failure)))
            else:
                send("failed", traceback.format_exc())
    _disconnect()


def restored_error(kind: type[Refusal], args: tuple[Any, ...], facts: dict[str, Any]) -> Refusal:
    """Rebuild an error that another process sent; its class may take other arguments."""
    error = kind.__new__(kind, *args)
    vars(error).update(facts)
    return error


class _Forwarding:
    """A Reporter that sends its messages to the process that started this one."""

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        self._send, self._last = send, 0.0

    def say(self, line: str) -> None:
        """Send the line."""
        self._send("say", line)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Send the progress, from time to time, and the end of an operation."""
        now = time.monotonic()
        if done >= total or now - self._last >= _SECONDS_BETWEEN_REPORTS:
            self._last = now
            self._send("progress", (what, done, total, unit))


class _Unpickler(pickle.Unpickler):
    """An unpickler that puts this process's own objects in place of the omitted ones."""

    stand_ins: dict[str, Any]

    def persistent_load(self, name: str) -> Any:
        """Return the object of a name."""
        return self.stand_ins[name]


def _result(rank: Rank, job: bytes, interrupts: Interrupts, reporter: Reporter) -> Any:
    if rank.number != 0:
        warnings.simplefilter("ignore")  # the primary process gives the same ones
    load_plugins(rank.plugins)
    with prepared(rank.threads, rank.device):
        platform, unpickler = RankPlatform(rank), _Unpickler(io.BytesIO(job))
        unpickler.stand_ins = {PLATFORM: platform, INTERRUPTS: interrupts, REPORTER: reporter}
        return unpickler.load()(platform)


def _follow(connection: Connection) -> None:
    """Raise the signals that the starting process passes on, and end with that process."""
    while True:
        try:
            number = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        _thread.interrupt_main(number)


def _disconnect() -> None:
    distributed = sys.modules.get("torch.distributed")  # a signal may have interrupted its import
    if distributed is not None and hasattr(distributed, "is_initialized") and distributed.is_initialized():
        distributed.destroy_process_group()
