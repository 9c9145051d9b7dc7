"""`examples/read_any_run.py`: every kind of run is read and verified with NumPy alone, and damage is found."""

from __future__ import annotations

import ast
import importlib.util
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from foundations.storage import sealed_json
from foundations.storage.run import Run
from foundations.storage.store import all_runs, find_run
from foundations.storage.upkeep import verify
from pruning.masks.mask import Mask
from tests import interpreter
from tests.cli.terminal import SHORT, Terminal
from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "read_any_run.py"
ONESHOT = ("branch", "train", "oneshot", *SHORT, "--strategy=snip1", "--density=0.1")
TWO = ("--platform=multi_gpu", "--num_processes=2", "--device=cpu")
KINDS = {
    "training and branch": (2, ONESHOT),
    "lottery": (3, ("lottery", *SHORT, "--levels=2", "--rewinding_steps=4it")),
    "together": (
        3,
        ("sweep", "--grid", "density=0.5,0.2", "--together=4", "--", *ONESHOT[:-2], "--strategy=random"),
    ),
    "several processes": (1, ("train", *SHORT, *TWO)),
    "techniques": (1, ("train", *SHORT, "--technique=rigl", "--start_density=0.1", "--mask_update_frequency=2it")),
    "replicate, half precision": (1, ("train", *SHORT, "--replicate=2", "--precision=bf16")),
}


def read(folder: Path | str) -> subprocess.CompletedProcess[str]:
    """Run the example far from the repository, so that it can import nothing of it."""
    return interpreter.run(["-I", EXAMPLE, folder], Path("/"))


@pytest.fixture(scope="module")
def branch(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Run:
    """A branch, beside the training that it is of. Only to be looked at."""
    terminal = Terminal(tmp_path_factory.mktemp("root"), digits)
    for command in (("train", *SHORT), ONESHOT):
        assert terminal.run(*command).code == 0
    return find_run(terminal.root, "branch_")


@pytest.fixture
def own(branch: Run, tmp_path: Path) -> Run:
    """A copy of it to do anything to."""
    shutil.copytree(branch.root, tmp_path / "copy")
    return Run(tmp_path / "copy", branch.location)


@pytest.fixture(scope="module")
def main() -> Callable[[Path], None]:
    """The function of the example that exits where a run is not whole."""
    spec = importlib.util.spec_from_file_location("read_any_run", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[Path], None] = module.main
    return found


def assert_is_read(run: Run) -> str:
    """Assert that the example prints the library's values of a run; return them."""
    assert verify(run) == []
    done = read(run.folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert str(run.location) in done.stdout
    report, manifest = run.sparsity(), run.manifest()
    assert ("not complete" in done.stdout) == (manifest is None)
    density = 1.0 if report is None else report["achieved"]["density"]
    assert f"density {density:.6f}, test accuracy" in done.stdout
    for name, layer in (report or {"layers": {}})["layers"].items():
        assert re.search(rf"  {re.escape(name)} .* kept {layer['density']:.4f}\n", done.stdout)
    if manifest is not None:
        assert f" {len(manifest.files)} files" in done.stdout
        accuracy = manifest.results.get("test_accuracy", "not measured")
        assert f"test accuracy {accuracy}\n" in done.stdout
    return done.stdout


def assert_is_refused(path: Path, *words: str) -> None:
    done = read(path)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1 and done.stderr.endswith(".\n"), done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_each_kind_are_read(kind: str, tmp_path: Path, digits: Path) -> None:
    count, command = KINDS[kind]
    result = Terminal(tmp_path, digits).run(*command)
    assert result.code == 0, result.err
    runs = list(all_runs(tmp_path))
    printed = "".join(map(assert_is_read, runs))

    assert len(runs) == count
    assert ("2 processes" in printed) == (kind == "several processes"), printed
    assert ("stacked with" in printed) == (kind == "together"), printed


def test_imports_are_read(branch: Run, tmp_path: Path, digits: Path) -> None:
    here, there = Terminal(branch.root, digits), Terminal(tmp_path / "root", digits)
    torch.save({"state_dict": branch.load_state(branch.kept_states(6)[-1])}, tmp_path / "weights.pt")
    assert here.run("export", str(branch.location), str(tmp_path / "ticket")).code == 0
    for arguments in ((str(tmp_path / "ticket"),), (str(tmp_path / "weights.pt"), "--weights", *SHORT)):
        result = there.run("import", *arguments)
        assert result.code == 0, result.err

    ticket, weights = sorted((run.has_mask(), assert_is_read(run)) for run in all_runs(tmp_path / "root"))[::-1]
    assert "density 0.0996" in ticket[1] and "density 1.0" in weights[1]
    assert "test accuracy not measured" in weights[1]


def test_a_run_that_is_under_way_is_read(own: Run) -> None:
    (own.folder / "manifest.json").unlink()
    own.save_checkpoint({"model.weight": torch.ones(3)}, {"step": 4})

    assert_is_read(own)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int16, torch.uint8, torch.bool])
def test_tensors_of_other_types_are_read(own: Run, dtype: torch.dtype, main: Callable[[Path], None]) -> None:
    values = torch.tensor([[0, 1, -2.5], [3.25, 1e-3, 7]]).to(dtype)
    (own.folder / "manifest.json").unlink()
    step = own.kept_states(6)[-1]
    own.save_state(step, {"fc.weight": values, "empty": values[:0], "scalar": values[0, 1]})
    found = main.__globals__["read"](own.folder / own.state_name(step))

    assert {name: array.shape for name, array in found.items()} == {"fc.weight": (2, 3), "empty": (0, 3), "scalar": ()}
    assert torch.equal(torch.from_numpy(found["fc.weight"].copy()).to(dtype), values)


def test_masks_are_read_as_they_are(branch: Run, main: Callable[[Path], None]) -> None:
    found = main.__globals__["read"](branch.folder / "mask.safetensors")

    assert Mask({name: torch.from_numpy(bits) for name, bits in found.items()}) == Mask.of_run(branch)


@pytest.mark.parametrize("name", ["description.json", "manifest.json", "mask.safetensors", "metrics.csv"])
def test_damaged_files_are_a_sentence_and_status_1(own: Run, name: str) -> None:
    path = own.folder / name
    data = path.read_bytes()
    for damaged in (data[:-1], b"", data[:99] + bytes([data[99] ^ 1]) + data[100:]):
        path.write_bytes(damaged)
        assert_is_refused(own.folder, name)
    path.unlink()
    if name != "manifest.json":  # without one, a run is not complete
        assert_is_refused(own.folder, name)


def test_what_verify_calls_damaged_is_refused_and_nothing_else(
    own: Run, main: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    random_numbers = random.Random(0)
    for path in sorted(path for path in own.folder.iterdir() if path.suffix != ".txt"):
        data = path.read_bytes()
        for _ in range(25):
            at = random_numbers.randrange(len(data))
            flipped = data[:at] + bytes([data[at] ^ 1 << random_numbers.randrange(8)]) + data[at + 1 :]
            path.write_bytes(random_numbers.choice([flipped, data[:at], data + b"\0"]))
            assert verify(own) != []
            with pytest.raises(SystemExit) as stop:
                main(own.folder)
            assert isinstance(stop.value.code, str) and path.name in stop.value.code and "\n" not in stop.value.code
        path.write_bytes(data)
        assert verify(own) == []
        main(own.folder)
    capsys.readouterr()


def test_of_several_manifests_the_last_one_counts(own: Run) -> None:
    first = next(path.name for path in own.tensor_files() if path.name.startswith("state_"))
    own.amended(without=[first])
    own.path(first).unlink()

    found, manifest = read(own.folder), own.read_manifest()

    assert manifest is not None and (found.returncode, found.stderr) == (0, "")
    assert f"complete, {len(manifest.files)} files verified" in found.stdout


def test_files_of_other_runs_and_other_formats_are_refused(own: Run) -> None:
    other = own.folder.parent / "main"
    shutil.copytree(other, moved := own.folder.parent / f"branch_oneshot_{'0' * 32}")
    assert_is_refused(moved, "description.json", "does not describe the folder")

    path = own.folder / "manifest.json"
    data = path.read_bytes()
    path.write_bytes((other / "manifest.json").read_bytes())
    assert_is_refused(own.folder, "manifest.json", "it belongs to")
    path.write_bytes(sealed_json.to_bytes({**json.loads(data), "format": 3}))
    assert_is_refused(own.folder, "manifest.json", "it is of format 3")
    path.unlink()
    shutil.copy(other / "state_ep0_it0.safetensors", own.folder)
    assert_is_refused(own.folder, "state_ep0_it0.safetensors", "it was written as")
    assert_is_refused(own.root / "nowhere", "description.json", "it is missing")


def test_it_has_at_most_100_lines_and_imports_nothing_but_numpy() -> None:
    text = EXAMPLE.read_text()
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom | ast.Import)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported}

    assert {module for module in modules if str(module).partition(".")[0] not in sys.stdlib_module_names} == {"numpy"}
    assert len(text.splitlines()) <= 100
    assert "FOLDER" in subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True).stderr
