"""The statements of docs/architecture.md hold."""

from __future__ import annotations

import ast
import graphlib
import re
import traceback
from pathlib import Path

import pytest

from cli.main import main
from foundations.storage.run import Run
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
    assert [*files, "foundations/storage/run.py"] == [file for file, _ in HOPS]
    assert {("foundations/storage/run.py", "save_mask"), *stack} >= set(HOPS)


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


def _imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports when it runs, late imports too; not those for type checkers only."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and child.module:
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            elif isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def _module_graph(floor: str) -> dict[str, set[str]]:
    """Return the modules of a floor, and which of each other they import."""
    paths = [path.relative_to(REPOSITORY) for path in (REPOSITORY / floor).rglob("*.py")]
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for imported in _imports(REPOSITORY / path):
            parts = imported.split(".")
            prefixes = [".".join(parts[:length]) for length in range(len(parts), 1, -1)]
            target = next((prefix for prefix in prefixes if prefix in modules), name)
            if target != name:
                graph[name].add(target)
    return graph


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the names of a circle, or nothing."""
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("floor", " ".join(FLOORS).split())
def test_no_files_of_a_floor_import_each_other_in_a_circle(floor: str) -> None:
    assert _circle(_module_graph(floor)) == []


@pytest.mark.parametrize("floor", " ".join(FLOORS).split())
def test_rooms_of_a_floor_do_not_import_each_other_in_a_circle(floor: str) -> None:
    graph = _module_graph(floor)
    rooms: dict[str, set[str]] = {}
    for name, targets in graph.items():
        # A file that lies beside the rooms stands for itself.
        of = {module: module if module.count(".") == 1 else module.rpartition(".")[0] for module in (name, *targets)}
        rooms.setdefault(of[name], set()).update(of[target] for target in targets if of[target] != of[name])

    assert _circle(rooms) == []


def test_each_room_is_listed_with_the_docstring_of_its_package() -> None:
    listed = dict(re.findall(r"^\| `([a-z_/]+)` \| (.+) \|$", (REPOSITORY / "docs/architecture.md").read_text(), re.M))
    packages = [path for floor in " ".join(FLOORS).split() for path in (REPOSITORY / floor).glob("*/__init__.py")]
    first_lines = {
        path.parent.relative_to(REPOSITORY).as_posix(): (ast.get_docstring(ast.parse(path.read_text())) or "").split(
            "\n"
        )[0]
        for path in packages
    }

    assert len(packages) > 30
    assert {room: listed.get(room) for room in first_lines} == first_lines


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function's body without its docstring."""
    is_documented = isinstance(function.body[0], ast.Expr) and isinstance(function.body[0].value, ast.Constant)
    statements = function.body[is_documented:]
    return (function.end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def test_files_have_400_lines_and_functions_60_at_most() -> None:
    paths = [path for floor in " ".join(FLOORS).split() for path in (REPOSITORY / floor).rglob("*.py")]
    long_files = [str(path) for path in paths if len(path.read_text().splitlines()) > 400]
    functions = [
        (str(path), node.name, _lines(node))
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert long_files == []
    assert [function for function in functions if function[2] > 60] == []
