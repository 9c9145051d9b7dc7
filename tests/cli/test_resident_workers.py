"""Runs that one process computes after others have the bytes of runs that commands compute."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from foundations.storage.manifest import Manifest
from foundations.storage.run import MANIFEST
from tests.cli.terminal import LENET, Terminal

TINY = (*LENET, "--training_steps=2ep", "--evaluate_only_at_end")
_PLUGIN = """
import dataclasses

from pruning.method import Method
from pruning.methods.magnitude import MAGNITUDE

ELSE = Method(**{
    **{field.name: getattr(MAGNITUDE, field.name) for field in dataclasses.fields(MAGNITUDE) if field.init},
    "spelling": "else",
})
"""


def contents(root: Path) -> dict[str, dict[str, object]]:
    """Return the files of each complete run by its place, without times and the names of processes."""
    found = {}
    for path in root.rglob(MANIFEST):
        manifest = Manifest.from_bytes(path.read_bytes())
        files: dict[str, object] = {name: (path.parent / name).read_bytes() for name in manifest.files}
        # Other tests of this process may have imported timm or transformers, whose versions are noted then.
        versions = {name: manifest.versions[name] for name in ("python", "torch", "numpy", "open_prune")}
        facts = (manifest.results, manifest.dataset, manifest.parents, versions, manifest.device)
        found[str(path.parent.relative_to(root))] = {**files, MANIFEST: facts}
    return found


def processes(root: Path) -> list[str]:
    """Return the processes that completed the runs, one for each run that was trained."""
    logs = (path.with_name("log.txt") for path in root.rglob(MANIFEST))
    published = (re.search(r"Published by process (\d+)", log.read_text()) for log in logs if log.exists())
    return [match[1] for match in published if match]


def swept_and_alone(
    terminal: Terminal, tmp_path: Path, grid: tuple[str, ...], command: tuple[str, ...], code: int
) -> list[str]:
    """Compute a sweep with one job at a time, and its commands alone; compare; return the processes of the sweep."""
    alone = Terminal(tmp_path / "alone", terminal.datasets)
    words = ("--", *command, "--threads=1")

    swept = terminal.run("sweep", *grid, "--jobs=1", *words)
    for line in terminal.run("sweep", *grid, "--export", *words).out.splitlines():
        alone.run(*shlex.split(line)[2:])

    assert swept.code == code, swept.out + swept.err
    assert contents(terminal.root)
    first, second = contents(terminal.root), contents(alone.root)
    assert first.keys() == second.keys()
    for place, files in first.items():
        for name, content in files.items():
            assert content == second[place][name], (place, name)
    for path in terminal.root.rglob("output.txt"):
        assert path.read_text().count("Finished ") == (path.parent / MANIFEST).exists()
    return processes(terminal.root)


def test_methods_and_a_run_that_fails_leave_nothing_to_the_next_runs(terminal: Terminal, tmp_path: Path) -> None:
    grid = ("--grid", "strategy=random,snip1000,magnitude,snip1,synflow,grasp1", "--when", "strategy=synflow:lr=0.05")

    found = swept_and_alone(terminal, tmp_path, grid, ("branch", "train", "oneshot", *TINY, "--density=0.5"), 1)

    assert len(found) == 5, "snip1000 asks for more examples than there are"
    assert len(set(found)) == 2, "a process ends with the job that fails"


def test_techniques_leave_nothing_to_the_next_runs(terminal: Terminal, tmp_path: Path) -> None:
    names = "rigl,gmp,ema,edge_popup,gradinit,set"

    command = ("train", *TINY, "--milestone_steps=1ep")
    rules = ("rigl:start_density=0.5", "set:start_density=0.5", "gmp:gmp_density=0.5", "gradinit:gradinit_iters=2")
    grid = ("--grid", f"technique={names}", *(word for rule in rules for word in ("--when", f"technique={rule}")))

    found = swept_and_alone(terminal, tmp_path, grid, command, 0)

    assert len(found) == names.count(",") + 1
    assert len(set(found)) == 1


def test_a_run_with_a_plug_in_has_a_process_of_its_own(terminal: Terminal, tmp_path: Path) -> None:
    plugin = tmp_path / "else.py"
    plugin.write_text(_PLUGIN)
    command = ("branch", "train", "oneshot", *TINY, "--density=0.5", f"--plugin={plugin}")

    found = swept_and_alone(terminal, tmp_path, ("--grid", "strategy=else,magnitude"), command, 0)

    assert len(set(found)) == 2
