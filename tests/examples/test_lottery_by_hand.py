"""The lottery written out in `examples/lottery_by_hand.py` gives the same bits as the command `lottery`."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from open_prune import open_run
from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "lottery_by_hand.py"


@pytest.fixture(scope="module")
def by_hand() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("lottery_by_hand", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("network", "levels", "rewind"), [("digits_lenet_40_20", 3, 50), ("digits_resnet_8_2", 1, 0)])
def test_each_level_has_the_bytes_of_the_command(
    network: str, levels: int, rewind: int, tmp_path: Path, digits: Path, by_hand: ModuleType
) -> None:
    terminal = Terminal(tmp_path, digits)
    command = ("lottery", f"--default_hparams={network}", f"--levels={levels}", f"--rewinding_steps={rewind}it")
    done = terminal.run(*command, "--device=cpu")
    assert done.code == 0, done.err
    folders = terminal.run(*command, "--display_output_location").out.split()
    found = list(by_hand.lottery(network, levels, rewind, datasets=digits))

    assert len(found) == len(folders) == levels + 1
    for level, folder in zip(found, folders, strict=True):
        run = open_run(str(Path(folder).relative_to(tmp_path)), root=tmp_path)
        assert [step.iteration for step in run.steps] == sorted(level.states)
        for iteration, state in level.states.items():
            kept = run.state(f"{iteration}it")
            assert list(kept) == sorted(state)
            assert all(torch.equal(kept[name], tensor) for name, tensor in state.items()), (level.number, iteration)
        assert run.mask() == level.mask
        rows = run.metrics_frame()
        assert level.metrics == dict(zip(zip(rows.name, rows.iteration, strict=True), rows.value, strict=True))


def test_the_file_runs_by_itself_in_150_lines_and_imports_public_names_only(digits: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OPEN_PRUNE_DATASETS": str(digits)}
    done = subprocess.run([sys.executable, EXAMPLE], env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert [line[:24] for line in done.stdout.splitlines()] == [
        "level 0  density 100.0% ",
        "level 1  density  80.0% ",
        "level 2  density  64.0% ",
        "level 3  density  51.2% ",
    ]
    text = EXAMPLE.read_text()
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom | ast.Import)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported}
    standard = {module for module in modules if module and module.partition(".")[0] in sys.stdlib_module_names}
    assert modules - standard == {"torch", "torch.nn", "open_prune"}
    assert len(text.splitlines()) <= 150
