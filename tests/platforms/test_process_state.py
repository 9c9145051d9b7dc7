"""The state by which a process tells that a job has left it as it was."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from platforms.executors.process_state import changes, process_state, warnings_noted
from tests.conftest import REPOSITORY


class _Mode(torch.overrides.TorchFunctionMode):
    """Changes nothing."""


_MODE = _Mode()
CHANGES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "torch.random": (lambda: torch.rand(1), lambda: None),
    "numpy.random": (lambda: np.random.rand(1), lambda: None),
    "random": (random.random, lambda: None),
    "torch.dtype": (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
    "torch.threads": (
        lambda: torch.set_num_threads(torch.get_num_threads() + 1),
        lambda: torch.set_num_threads(torch.get_num_threads() - 1),
    ),
    "torch.grad": (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
    "torch.deterministic": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: torch.use_deterministic_algorithms(False),
    ),
    "denormals": (lambda: torch.set_flush_denormal(True), lambda: torch.set_flush_denormal(False)),
    "torch.autocast": (
        lambda: torch.set_autocast_dtype("cpu", torch.float16),
        lambda: torch.set_autocast_dtype("cpu", torch.bfloat16),
    ),
    "torch.modes": (_MODE.__enter__, lambda: _MODE.__exit__(None, None, None)),
    "torch.modes of a device": (lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    "torch.products": (
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("highest"),
    ),
    "numpy": (lambda: np.seterr(all="ignore"), lambda: np.seterr(divide="warn", over="warn", invalid="warn")),
    "warnings": (lambda: warnings.simplefilter("error"), lambda: None),
    "logging": (
        lambda: logging.getLogger().setLevel(logging.DEBUG),
        lambda: logging.getLogger().setLevel(logging.WARNING),
    ),
    "interpreter": (
        lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
        lambda: sys.setrecursionlimit(sys.getrecursionlimit() - 1),
    ),
    "umask": (lambda: os.umask(os.umask(0) ^ 1), lambda: os.umask(os.umask(0) ^ 1)),
}
"""By the name of a state: a function that changes it, and one that changes it back."""


def test_nothing_changes_the_state_of_a_process_that_does_nothing() -> None:
    module = "from platforms.executors.process_state import changes, process_state, resident_memory"
    code = f"{module}; print(changes(process_state(), process_state()), resident_memory() > 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[] True"


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_or_a_random_number_changes_the_state(name: str) -> None:
    change, back = CHANGES[name]
    with warnings.catch_warnings(), torch.random.fork_rng():
        before = process_state()
        change()
        try:
            assert name.partition(" of ")[0] in changes(before, process_state())
        finally:
            back()


def test_backward_passes_leave_the_state_as_it_was() -> None:
    layer = torch.nn.Linear(3, 3).requires_grad_(True)
    with torch.random.fork_rng(), torch.no_grad():
        layer.weight.fill_(0.5)
    before = process_state()
    layer(torch.ones(2, 3)).sum().backward()

    assert changes(before, process_state()) == []


def test_warnings_are_noted_and_shown_in_each_block() -> None:
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with warnings_noted() as shown:
                for _ in range(2):
                    warnings.warn("beware", stacklevel=1)
            assert shown == ["UserWarning"]
    filters = tuple(warnings.filters)
    with warnings_noted():
        warnings.simplefilter("ignore")
    assert tuple(warnings.filters) == filters
