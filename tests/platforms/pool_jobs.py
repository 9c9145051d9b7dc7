"""Jobs of the pool's tests: a program that takes a word."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence

_left: list[str] = []


def state() -> dict[str, list[str]]:
    """Return the words that jobs have left in this module."""
    return {"left": list(_left)}


def main(argv: Sequence[str]) -> int:
    """Run the action named by the first argument; print the process and what jobs before have left in it."""
    word, *_ = argv
    left = [*_left, *(["environment"] if "OPEN_PRUNE_TEST_LEFT" in os.environ else [])]
    sys.stdout.write(f"{os.getpid()} {','.join(left) or 'clean'}\n")
    sys.stdout.flush()
    if word == "module":
        _left.append("used")
    if word == "environment":
        os.environ["OPEN_PRUNE_TEST_LEFT"] = "1"
    if word == "random":
        random.random()
    if word == "file":
        os.dup(0)
    if word == "thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if word == "handler":
        signal.signal(signal.SIGUSR1, lambda *_: None)
    if word == "folder":
        os.chdir("/")
    if word == "warn":
        warnings.warn("beware", stacklevel=1)
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    if word == "raise":
        raise RuntimeError("a bug")
    if word in ("wait", "pause"):
        time.sleep(60 if word == "wait" else 0.5)
    sys.stderr.write("a complaint\n")
    return int(word) if word.isdigit() else 0
