"""Jobs of the pool's tests: a program that takes a word."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

state = "clean"


def main(argv: Sequence[str]) -> int:
    """Run the action named by the first argument; print the process, and whether it ran a job before."""
    global state
    word, *_ = argv
    sys.stdout.write(f"{os.getpid()} {state}\n")
    sys.stdout.flush()
    state = "used"
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    if word == "raise":
        raise RuntimeError("a bug")
    if word == "wait":
        time.sleep(60)
    sys.stderr.write("a complaint\n")
    return int(word) if word.isdigit() else 0
