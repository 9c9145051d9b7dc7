"""The wheel, and an installation from it: beside another `datasets`, typed, with the same results.

By default it is installed without its dependencies into a folder, and the environment of the tests has these; a module
`datasets` of a few lines stands for another project's. With `--in_new_environment` (`make wheel-test`), a new virtual
environment gets all dependencies and Hugging Face `datasets`.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from foundations.program import version
from setup import floors, relocated, shipped
from tests.cli.terminal import SHORT, Terminal, tensors_of
from tests.conftest import REPOSITORY
from tests.wheel import build, install, pip

OTHER_DATASETS = """
class Dataset:
    def __init__(self, columns):
        self.num_rows = len(columns["label"])

    from_dict = classmethod(lambda cls, columns: cls(columns))
"""
BRANCH = ("branch", "train", "oneshot", *SHORT, "--strategy=snip1", "--density=0.3")


@dataclass
class Installed:
    """An environment in which open_prune is installed, and an empty folder to work in."""

    python: Path
    command: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path, code: int = 0) -> str:
        """Run a command in the folder; return its output."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= Terminal(self.folder / "runs", self.folder / "prepared", self.environment).settings()
        done = subprocess.run([*command], cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def open_prune(self, *arguments: str, code: int = 0) -> str:
        return self.run(self.command, *arguments, code=code)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Installed]:
    empty = tmp_path_factory.mktemp("empty")
    with tempfile.TemporaryDirectory() as place:  # gigabytes, which pytest's own folders would keep for a while
        if request.config.getoption("in_new_environment"):
            yield in_new_environment(Path(place), wheel, empty)
        else:
            yield in_folder(Path(place), wheel, empty)


def in_new_environment(place: Path, wheel: Path, empty: Path) -> Installed:
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    pip(python, "install", str(wheel), "datasets", "mypy")
    return Installed(python, place / "bin" / "open_prune", empty)


def in_folder(place: Path, wheel: Path, empty: Path) -> Installed:
    install(wheel, place)
    (place / "datasets.py").write_text(OTHER_DATASETS)
    return Installed(Path(sys.executable), place / "bin" / "open_prune", empty, {"PYTHONPATH": str(place)})


def test_the_wheel_holds_one_package_with_its_types_and_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"open_prune"}
    assert {"open_prune/py.typed", "open_prune/__main__.py", "open_prune/datasets/sources/digits.safetensors"} <= set(
        names
    )
    sources = (REPOSITORY / "datasets" / "sources").iterdir()
    shipped_data = {f"open_prune/datasets/sources/{path.name}" for path in sources if path.is_file()}
    assert len([name for name in shipped_data if not name.endswith(".py")]) >= 4  # images, two tables, a text
    assert shipped_data <= set(names)
    assert {f"open_prune/analysis/report/{name}" for name in ("template.html", "style.css", "script.js")} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[1] for name in names if name.count("/") > 1 and ".dist-info" not in name} == set(
        floors(REPOSITORY)
    )


def test_none_of_our_other_top_level_names_can_be_imported(installed: Installed) -> None:
    code = (
        "import importlib.util, json, sys\n"
        "found = {name: importlib.util.find_spec(name) for name in sys.argv[1:]}\n"
        "print(json.dumps([name for name, spec in found.items() if spec is not None]))"
    )
    found = json.loads(installed.run(installed.python, "-c", code, *floors(REPOSITORY)))

    assert found == ["datasets"]


def test_the_library_prunes_beside_the_other_datasets(installed: Installed) -> None:
    code = (
        "import datasets, torch\n"
        "from open_prune import Mask, PruningWrapper, prune\n"
        "model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))\n"
        "mask = prune(model, 'snip1', density=0.5, examples=(torch.randn(2, 8), torch.arange(2)))\n"
        "mask.apply_(model)\n"
        "assert isinstance(mask, Mask) and PruningWrapper(model, device='cpu')\n"
        "print(mask.kept, datasets.Dataset.from_dict({'label': [0, 1, 1]}).num_rows, datasets.__file__)"
    )
    kept, rows, file = installed.run(installed.python, "-c", code).split()

    assert (kept, rows) == ("30", "3")
    assert "open_prune" not in Path(file).parts


def test_the_command_trains_and_branches_with_the_addresses_and_bytes_of_the_repository(
    installed: Installed, tmp_path: Path, digits: Path
) -> None:
    assert "computed" in installed.open_prune("train", *SHORT)
    said = installed.run(installed.python, "-m", "open_prune", *BRANCH)
    (folder,) = map(Path, re.findall(r"^results in: +(.+)$", said, flags=re.MULTILINE))
    repository = Terminal(tmp_path, digits)
    assert repository.run(*BRANCH).code == 0
    ours = repository.where(*BRANCH)

    assert folder.relative_to(installed.folder / "runs") == ours.relative_to(repository.root)
    assert tensors_of(folder) == tensors_of(ours) != {}
    assert json.loads((folder / "manifest.json").read_text())["versions"]["open_prune"] == version()


def test_an_editable_install_is_refused_with_the_commands_that_work(wheel: Path) -> None:
    source = wheel.parent / "source"  # of which the wheel was built
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--editable", str(source)]

    refused = subprocess.run(command, capture_output=True, text=True)

    said = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert "open_prune cannot be installed in editable mode" in said and "Traceback" not in said
    assert f"{sys.executable} -m pip install {source}" in said
    assert f"{sys.executable} {source / 'open_prune.py'}" in said


def test_the_papers_are_found_where_it_is_installed(installed: Installed) -> None:
    assert "synaptic_flow_7" in installed.open_prune("papers")
    assert "34 runs, 0 done" in installed.open_prune("paper", "demo", "--dry_run")


def test_a_plug_in_works_with_the_installed_command_and_its_runs_are_read_from_python(installed: Installed) -> None:
    plugin = REPOSITORY / "examples" / "my_method.py"
    job = ("branch", "train", "oneshot", *SHORT, "--strategy=fan_in_magnitude", f"--plugin={plugin}")
    assert "computed" in installed.open_prune(*job)

    code = "from open_prune import open_run, runs; print(open_run(runs('strategy=fan_in_magnitude').address[0]).mask())"

    assert installed.run(installed.python, "-c", code).startswith("Mask(2 tensors")


def test_messages_name_the_command_as_it_is_called(installed: Installed) -> None:
    for arguments, code in ((["--help"], 0), (["train", "--help"], 0), (["show", "0123"], 2), (["rm"], 2)):
        said = installed.open_prune(*arguments, code=code)
        assert re.search(r"(?<!python )open_prune (COMMAND|train|ls|rm)", said)
        assert "open_prune.py" not in said


def test_mypy_sees_the_types_of_what_is_imported(installed: Installed) -> None:
    (installed.folder / "theirs.py").write_text(
        "from open_prune import Mask, PruningHparams, prune\n\n\n"
        "def kept(mask: Mask) -> str:\n"
        "    return mask.kept\n\n\n"
        "def level(hparams: PruningHparams) -> float:\n"
        "    return hparams.level\n\n\n"
        "prune(strategy='snip1')\n"
    )
    (installed.folder / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-torch.*,torchvision.*,numpy.*]\nfollow_imports = skip\n"  # for speed
    )
    said = installed.run(installed.python, "-m", "mypy", "theirs.py", code=1)

    assert 'theirs.py:5: error: Incompatible return value type (got "int", expected "str")' in said
    assert 'theirs.py:12: error: Missing positional argument "model" in call to "prune"' in said
    assert "theirs.py:9" not in said
    assert "Found 2 errors in 1 file" in said


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("from datasets.spec import Split", "from open_prune.datasets.spec import Split"),
        ("from models import lenet  # ours", "from open_prune.models import lenet  # ours"),
        ("if True:\n    from models.families.vgg import (\n        vgg,\n    )", None),
        ("def f():\n    'é'; from models import vgg; from datasets import spec", None),
        ("from os.models import vgg\nfrom datasets_of import x\nimport os", "same"),
        ("text = 'from models import vgg'  # from models import vgg", "same"),
        ("from .models import vgg", "same"),
    ],
)
def test_imports_of_our_packages_are_relocated_and_nothing_else(written: str, expected: str | None) -> None:
    everywhere = written.replace("from models", "from open_prune.models").replace("from data", "from open_prune.data")
    wanted = {None: everywhere, "same": written}.get(expected, expected)

    assert relocated(written.encode(), ["models", "datasets"]).decode() == wanted


@pytest.mark.parametrize("written", ["import models.families.vgg", "import os, models", "from  models import vgg"])
def test_an_import_that_cannot_be_relocated_is_refused_by_line(written: str) -> None:
    with pytest.raises(ValueError, match="line 3: write `from"):
        relocated(f"import os\n\n{written}\n".encode(), ["models", "datasets"])


def test_pinned_requirements_are_those_that_the_project_asks_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    ranges = {found.name: found.specifier for found in map(Requirement, project["dependencies"])}
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", (REPOSITORY / "requirements.txt").read_text(), flags=re.MULTILINE))

    assert set(pins) == set(ranges)
    assert all(Version(version) in ranges[name] for name, version in pins.items())


def test_the_program_imports_each_package_that_it_asks_for_and_no_other() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    modules = {"pillow": "PIL", "dataclasses-json": "dataclasses_json"}
    required, *extra = (
        {modules.get(found.name, found.name) for found in map(Requirement, requirements)}
        for requirements in (project["dependencies"], *project["optional-dependencies"].values())
    )
    imported = {
        name.partition(".")[0]
        for path in shipped(REPOSITORY)
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_bytes()))
        for name in names_in(node)
    }
    ours = {*floors(REPOSITORY), "open_prune"}

    assert required <= imported
    assert imported <= required.union(ours, sys.stdlib_module_names, *extra)


def names_in(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []
