"""Processes for the Pythons that a command starts by `multiprocessing`, which would import torch for seconds.

They are forked before the command begins, so they have nothing of its state. Each waits until the command starts a
Python, and then is that Python: a child of the command, with the files, environment and signal mask of a new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import traceback
import types
from collections.abc import Sequence
from multiprocessing import util
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MOST_FILES = 16
_FREE = 500
"""No file of a process that has just been forked has such a number."""
_new_python: Any = getattr(util, "spawnv_passfds")  # noqa: B009
_spares: list[tuple[int, socket.socket]] = []


def number_needed(words: Sequence[str]) -> int:
    """Return the number of Pythons that a command may start: a fork server for a pool, or the ranks of a training."""
    number = next((word.partition("=")[2] for word in words if word.startswith("--num_processes=")), "")
    return int(number) if number.isdecimal() and int(number) <= 4 else int(words[:1] in (["sweep"], ["paper"]))


def fork_spares(number: int) -> None:
    """Fork processes for the Pythons that this process starts from now on."""
    for _ in range(number):
        ours, theirs = socket.socketpair()
        process = os.fork()
        if not process:
            ours.close()
            for _, other in _spares:
                other.close()
            _spares.clear()
            _wait(theirs)
        theirs.close()
        _spares.append((process, ours))
    setattr(util, "spawnv_passfds", _started)  # noqa: B010


def _started(path: Any, arguments: Sequence[str], files: Sequence[int]) -> int:
    """Start a Python, in a spare process if there is one, as `multiprocessing.util.spawnv_passfds` does."""
    words = list(arguments)
    code = words[words.index("-c") + 1 :] if "-c" in words else [""]
    if not _spares or not code[0].startswith(("from multiprocessing.forkserver", "from multiprocessing.spawn")):
        return int(_new_python(path, arguments, files))
    process, channel = _spares.pop(0)  # so numbers of processes ascend
    request = {
        "code": code,
        "files": list(files),
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "ignored": [int(each) for each in _SIGNALS if signal.getsignal(each) is signal.SIG_IGN],
    }
    with channel:
        socket.send_fds(channel, [b"!"], files)
        channel.sendall(json.dumps(request).encode())
    return process


def _wait(channel: socket.socket) -> NoReturn:
    """Wait for a request, and be the Python that it asks for; end if there is none."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    with channel:
        found, received, _, _ = socket.recv_fds(channel, 1, _MOST_FILES)
        if not found:
            os._exit(0)
        with channel.makefile("rb") as stream:
            request = json.loads(stream.read())
    _take_files(received, request["files"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number in _SIGNALS:  # one that came meanwhile was not for this process
        handler = signal.signal(number, signal.SIG_IGN)
        if number not in request["ignored"]:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    code, *words = request["code"]
    sys.argv = ["-c", *words]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exit_code = 0
    try:
        exec(code, vars(main))
    except SystemExit as stop:
        exit_code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        exit_code = 1
    for each in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            each.flush()
    os._exit(exit_code)


def _take_files(received: Sequence[int], numbers: Sequence[int]) -> None:
    """Give files the numbers that they have in the process that asks."""
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FREE) for each in received]
    for each in received:
        os.close(each)
    for each, number in zip(moved, numbers, strict=True):
        os.dup2(each, number, inheritable=False)
        os.close(each)
