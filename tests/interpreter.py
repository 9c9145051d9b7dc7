"""New interpreters for what tests run as a process of its own, without the seconds in which each would import torch.

They are forked from a server with one thread, which has imported torch and nothing of the repository
(`tests/interpreter_server.py`). Each is a real process: arguments, environment, working folder, standard files, number,
signals and exit codes are those of `python WORDS...`. Tests about imports, hash seeds and installation start a Python
of their own instead.

A command of the repository can be warm: then all modules of the repository are imported, too, and it takes hundredths
of a second.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = Path(__file__).with_name("interpreter_server.py")


class Interpreter:
    """A process under way, with the parts of `subprocess.Popen` and of `multiprocessing.Process` that tests use."""

    def __init__(
        self,
        words: Sequence[str | Path],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int,
        stderr: int,
        start_new_session: bool = False,
        is_warm: bool = False,
        user: int | None = None,
    ) -> None:
        """words: the words after `python`: a file or `-c` and code, with `-I` before it or not.

        is_warm: whether the repository's modules are imported; the file is open_prune.py. user: as whom it acts then.
        """
        request = {
            "words": [str(word) for word in words],
            "folder": str(folder),
            "environment": dict(os.environ if environment is None else environment),
            "is_leader": start_new_session,
            "user": user,
        }
        self.returncode: int | None = None
        reader, writer = os.pipe()
        self._report = os.fdopen(reader)
        nothing = os.open(os.devnull, os.O_RDONLY)
        files = [nothing if stdin == subprocess.DEVNULL else stdin, stdout, stderr, writer]
        try:
            socket.send_fds(_server(is_warm), [f"{json.dumps(request)}\n".encode()], files)
        finally:
            os.close(nothing)
            os.close(writer)
        self.pid = int(self._report.readline())

    def poll(self) -> int | None:
        """Return the exit code, if the process has ended."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code. Raises: subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("python", timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    @property
    def exitcode(self) -> int | None:
        return self.poll()

    def is_alive(self) -> bool:
        return self.poll() is None

    def join(self, timeout: float | None = None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        self.returncode = int(self._report.readline())
        self._report.close()


def run(
    words: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS...` to its end; return its output as `subprocess.run` with `capture_output` does."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Interpreter(words, folder, environment, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, 9)
            raise
        said = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
    return subprocess.CompletedProcess([sys.executable, *words], code, *said)


def run_bare(
    words: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Do the same in a Python that nothing was imported in before."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@functools.cache
def _server(is_warm: bool) -> socket.socket:
    ours, theirs = socket.socketpair()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, str(_SERVER), *(["warm"] if is_warm else [])]
    server = subprocess.Popen(words, stdin=theirs.fileno(), env=environment)
    theirs.close()
    atexit.register(_end, ours, server)
    return ours


def _end(ours: socket.socket, server: subprocess.Popen[bytes]) -> None:
    ours.close()
    server.wait(60)
