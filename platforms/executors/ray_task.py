"""The body of a Ray task: a command, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from platforms.executors.stopping import STOP, STOPPED

_LOOK_SECONDS = 0.5
_TIED = Path(__file__).with_name("tied.py")


def run_command(command: Sequence[str], output: str, environment: Mapping[str, str], records: str, key: str) -> int:
    """Run a command and return its exit code: negative if a signal killed it.

    output: the file for its output. environment: variables besides the node's own. records: the folder in which this
    function writes `<key>.started` when the command runs, and looks for the file STOP.
    """
    stop = Path(records, STOP)
    if stop.exists():
        return STOPPED
    Path(records, f"{key}.started").write_text(socket.gethostname())
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with Path(output).open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-I", str(_TIED), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
        )
    is_asked = False
    while True:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_SECONDS)
            should_end = stop.exists()
        except KeyboardInterrupt:  # Ray's way to cancel a task
            should_end = True
        if should_end and not is_asked:
            is_asked = True
            process.terminate()  # only once: a second signal would end it without a checkpoint
