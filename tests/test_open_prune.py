"""The library: what can be imported from open_prune, and what importing it costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import open_prune
from tests.conftest import REPOSITORY

NAMES = open_prune.__all__


def test_the_names_that_type_checkers_read_are_those_that_can_be_imported() -> None:
    tree = ast.parse((REPOSITORY / "open_prune.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    public = [alias.name for node in imports for alias in node.names if alias.asname == alias.name]

    assert len(public) > 100
    assert {*public, "main", "__version__"} == set(NAMES) <= set(dir(open_prune))


@pytest.mark.parametrize("name", NAMES)
def test_each_name_can_be_imported(name: str) -> None:
    assert getattr(open_prune, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'open_prune' has no attribute 'prunes'"):
        _ = open_prune.prunes


def test_importing_it_and_declaring_a_method_import_no_torch() -> None:
    code = (
        "import sys, open_prune\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('foundations', 'pruning', 'cli')]\n"
        "from open_prune import Family, Method, DatasetSpec, Branch, Recipe, PruningHparams, hparam, __version__\n"
        "assert not {'torch', 'numpy', 'torchvision'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_the_version_is_that_of_the_project() -> None:
    command = [sys.executable, "open_prune.py", "--version"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)

    (written,) = re.findall(r'^version = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert done.stdout == f"open_prune {written}\n"
    assert open_prune.__version__ == written
