"""The process that `tests/interpreter.py` forks interpreters from. It imports what most of them would wait for.

It runs by itself, with a socket as its standard input. A request is a line of JSON, with four files: the new
interpreter's standard ones, and one that gets its process number and, once it has ended, how.

Started with the word `warm`, it imports the modules of the repository, too, and its interpreters run the command.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing.util
import os
import selectors
import signal
import socket
import sys
import traceback
import types
from pathlib import Path
from typing import Any

import numpy  # noqa: F401
import rich.console
import rich.progress
import rich.table  # noqa: F401
import safetensors.torch  # noqa: F401
import torch  # noqa: F401

_LARGEST = 1 << 20
REPOSITORY = Path(__file__).resolve().parent.parent
_FLOORS = ("foundations", "models", "datasets", "platforms", "pruning", "training", "branches", "analysis", "cli")
_LIBRARIES = ("matplotlib.backends.backend_agg", "matplotlib.figure", "PIL.Image", "rich.live", "torch.func")
"""Libraries that functions of the repository import."""


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork an interpreter for each request; return the request in the new interpreter, nothing in the server's end."""
    ended, wakes = socket.socketpair()
    ended.setblocking(False)
    wakes.setblocking(False)
    handler = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wakes.fileno())
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(ended, selectors.EVENT_READ)
    reports: dict[int, int] = {}
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if ended in ready:
            ended.recv(_LARGEST)
            _report(reports)
        if requests not in ready:
            continue
        data, files, _, _ = socket.recv_fds(requests, _LARGEST, 4)
        if not data:
            return None
        while not data.endswith(b"\n"):
            data += requests.recv(_LARGEST)
        process = os.fork()
        if not process:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, handler)
            selector.close()
            for each in (requests, ended, wakes):
                each.close()
            for report in (*reports.values(), files[3]):
                os.close(report)
            return {**json.loads(data), "files": files[:3]}
        for file in files[:3]:
            os.close(file)
        reports[process] = files[3]
        os.write(files[3], f"{process}\n".encode())


def _report(reports: dict[int, int]) -> None:
    """Tell how processes ended, as `subprocess` does: their exit code, or the negative number of a signal."""
    for process in list(reports):
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            report = reports.pop(process)
            os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(report)


def begin(request: dict[str, Any]) -> types.CodeType:
    """Make this process what `python WORDS...` begins with; return the code that is to run as `__main__`."""
    if request["is_leader"]:
        os.setsid()
    for number, file in enumerate(request["files"]):
        os.dup2(file, number)
    for file in request["files"]:
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    words = request["words"]
    is_isolated = words[0] == "-I"
    words = words[is_isolated:]
    sys.argv = words if words[0] != "-c" else ["-c", *words[2:]]
    own = "" if words[0] == "-c" else os.path.dirname(os.path.abspath(words[0]))  # noqa: PTH100, PTH120
    if not is_isolated:
        path = os.environ.get("PYTHONPATH", "")
        sys.path[:0] = [own, *filter(None, path.split(os.pathsep))]
        if path:
            sys.modules.pop("sitecustomize", None)
            with contextlib.suppress(ImportError):
                import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if words[0] == "-c":
        return compile(words[1], "<string>", "exec", dont_inherit=True)
    main.__file__ = os.path.abspath(words[0])  # noqa: PTH100
    with open(words[0], "rb") as file:  # noqa: PTH123
        return compile(file.read(), main.__file__, "exec", dont_inherit=True)


def warm_up() -> None:
    """Import what commands import, but for what is not installed."""
    sys.path.insert(0, str(REPOSITORY))
    files = [path for floor in _FLOORS for path in sorted((REPOSITORY / floor).rglob("*.py"))]
    modules = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in files]
    packages_and_modules = [each.removesuffix(".__init__") for each in modules]
    for name in ("open_prune", "tests.spare_processes", *packages_and_modules, *_LIBRARIES):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def command(user: int | None) -> int:
    """Run the command in the arguments of this process, as somebody else if root runs the tests; return its exit code.

    Unlike a Python that ends by itself, this does not shut torch down, which takes a third of a second.
    """
    import open_prune
    from tests.spare_processes import fork_spares, number_needed

    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    fork_spares(number_needed(sys.argv[1:]))
    try:
        code = open_prune.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    multiprocessing.util._exit_function()  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


if __name__ == "__main__":
    del sys.path[0]  # this file's folder
    _is_warm = sys.argv[1:] == ["warm"]
    if _is_warm:
        warm_up()
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=os.dup(0)) as _requests:
        _request = serve(_requests)
    if _request is None:
        os._exit(0)  # some libraries complain when they are shut down
    _code = begin(_request)
    if _is_warm:
        os._exit(command(_request["user"]))
    exec(_code, vars(sys.modules["__main__"]))
