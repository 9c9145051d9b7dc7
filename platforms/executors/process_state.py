"""The state of a process that outlives a job, so that a process takes another job only if the last one left nothing.

A job leaves its process clean if two calls of `process_state`, before and after it, return equal values.
"""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from foundations.registry import loaded_plugins


def process_state() -> dict[str, Any]:
    """Return the state of this process by name, as values that can be compared.

    It covers random generators, threads, child processes, open files, signals, the environment, plug-ins, and the
    settings of Python, NumPy and PyTorch as far as these are imported. Caches and imported modules are left out.
    """
    return {
        "folder": os.getcwd(),  # noqa: PTH109
        "umask": _umask(),
        "environment": dict(os.environ),
        "files": _files(),
        "threads": set(threading.enumerate()),
        "children": set(multiprocessing.active_children()),
        "plug-ins": loaded_plugins(),
        **_signals(),
        **_of_python(),
        **_of_numpy(),
        **_of_torch(),
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of the states that differ."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


@contextlib.contextmanager
def warnings_noted() -> Iterator[list[str]]:
    """Inside the block, show each warning again that was shown before the block; yield the list of those shown in it.

    The filters are restored at the end.
    """
    shown: list[str] = []
    with warnings.catch_warnings():  # forgets which warnings were shown
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            shown.append(category.__name__)
            show(message, category, *place, **more)

        warnings.showwarning = note
        yield shown


def resident_memory() -> int:
    """Return the bytes of memory that this process holds at present; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _umask() -> int:
    former = os.umask(0o077)
    os.umask(former)
    return former


def _files() -> dict[int, str]:
    """Return the file that each open descriptor refers to."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):  # a system without /proc
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):  # the one that lists them
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
    return {number: what for number, what in found.items() if not what.endswith("/fd")}


def _signals() -> dict[str, Any]:
    return {
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "wake-up file": _wakeup_file(),
        "timers": [signal.getitimer(each) for each in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
    }


def _wakeup_file() -> int:
    former = signal.set_wakeup_fd(-1)
    if former != -1:
        signal.set_wakeup_fd(former)
    return former


def _of_python() -> dict[str, Any]:
    root = logging.getLogger()
    return {
        "random": random.getstate(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook, sys.breakpointhook),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "denormals": float("5e-324") * 1.0 != 0,
        "interpreter": (sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits()),
        "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), tuple(gc.callbacks)),
        "warnings": (tuple(warnings.filters), warnings.showwarning),
        "logging": (root.level, tuple(root.handlers), root.manager.disable),
        "locale": locale.setlocale(locale.LC_ALL),
    }


def _of_numpy() -> dict[str, Any]:
    if "numpy" not in sys.modules:
        return {}
    import numpy as np

    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "numpy.random": (kind, np.asarray(keys).tobytes(), *rest),
        "numpy": (np.geterr(), np.geterrcall(), repr(np.get_printoptions())),
    }


def _of_torch() -> dict[str, Any]:
    if "torch" not in sys.modules:
        return {}
    import torch

    modules: Any = torch.nn.modules.module
    hooks = {name: len(value) for name, value in vars(modules).items() if name.startswith("_global") and value}
    with torch._C.DisableTorchFunction():  # modes that a job has left on must not see this
        random_state = torch.get_rng_state().numpy().tobytes()
    found = {
        "torch.random": random_state,
        "torch.dtype": torch.get_default_dtype(),
        "torch.threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch.grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "torch.deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        ),
        "torch.warnings": torch.is_warn_always_enabled(),
        "torch.hooks": hooks,
        # A default device is a mode, too.
        "torch.modes": (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()),
    }
    return found | _autocast() | _backends()


def _autocast() -> dict[str, Any]:
    import torch

    kinds = ("cpu", "cuda")
    settings = [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds]
    return {"torch.autocast": (settings, torch.is_autocast_cache_enabled())}


def _backends() -> dict[str, Any]:
    from torch import backends

    attention: Any = backends.cuda
    cudnn, products = backends.cudnn, backends.cuda.matmul
    return {
        "torch.cudnn": (cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32),
        "torch.products": (
            products.allow_tf32,
            products.allow_fp16_reduced_precision_reduction,
            products.allow_bf16_reduced_precision_reduction,
        ),
        "torch.mkldnn": (backends.mkldnn.enabled, backends.mkldnn.deterministic),
        "torch.einsum": (backends.opt_einsum.enabled, backends.opt_einsum.strategy),
        "torch.attention": (attention.flash_sdp_enabled(), attention.math_sdp_enabled()),
    }
