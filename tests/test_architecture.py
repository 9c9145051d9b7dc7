"""What docs/architecture.md says is so."""

from __future__ import annotations

import ast
import re
import traceback
from pathlib import Path

import pytest

from cli.main import main
from foundations.run import Run
from tests.conftest import REPOSITORY

FLOORS = ("foundations", "models datasets", "pruning", "platforms", "training", "branches", "analysis", "cli")
HOPS = re.findall(r"^\d+\. `([^`:]+):([^`]+)`", (REPOSITORY / "docs/architecture.md").read_text(), flags=re.MULTILINE)


def test_the_way_from_the_command_line_to_a_mask_is_the_one_described(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks: list[list[tuple[str, str]]] = []

    def save_mask(self: Run, *args: object) -> None:
        frames = traceback.extract_stack()
        paths = [Path(frame.filename) for frame in frames]
        inside = [
            (path.relative_to(REPOSITORY).as_posix(), frame.name)
            for path, frame in zip(paths, frames, strict=True)
            if path.is_relative_to(REPOSITORY) and path.relative_to(REPOSITORY).parts[0] not in ("tests", ".venv")
        ]
        stacks.append(inside)
        original(self, *args)  # type: ignore[arg-type]

    original = Run.save_mask
    monkeypatch.setattr(Run, "save_mask", save_mask)
    monkeypatch.setenv("OPEN_PRUNE_ROOT", str(tmp_path))
    monkeypatch.setenv("OPEN_PRUNE_DATASETS", str(digits))

    flags = ("--default_hparams=digits_lenet_16", "--training_steps=0it", "--strategy=snip1", "--quiet")
    assert main(["branch", "train", "oneshot", *flags]) == 0

    (stack,) = stacks
    files = [file for place, (file, _) in enumerate(stack) if place == 0 or stack[place - 1][0] != file]
    assert len(HOPS) <= 10
    assert [*files, "foundations/run.py"] == [file for file, _ in HOPS]
    assert {("foundations/run.py", "save_mask"), *stack} >= set(HOPS)


def test_each_floor_imports_only_floors_below_it() -> None:
    level = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
    for floor, number in level.items():
        for path in (REPOSITORY / floor).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for module in modules:
                    other = level.get(module.partition(".")[0], -1)
                    is_own = module.partition(".")[0] == floor
                    assert other < number or is_own, f"{path} imports {module}"


def test_the_files_that_are_named_exist() -> None:
    named = re.findall(r"`([a-z_/]+\.py)\b", (REPOSITORY / "docs/architecture.md").read_text())

    assert len(named) > 10
    assert [path for path in named if not (REPOSITORY / path).is_file()] == []
