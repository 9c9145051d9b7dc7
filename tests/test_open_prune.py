"""The library: the names that open_prune exports, and the cost of importing it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import open_prune
from tests import interpreter
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


_HANDLERS = """
import signal, sys, threading
numbers = signal.SIGINT, signal.SIGTERM
before = [signal.getsignal(number) for number in numbers], sys.unraisablehook, sys.excepthook
import open_prune
for name in open_prune.__all__:
    getattr(open_prune, name)
assert before == ([signal.getsignal(number) for number in numbers], sys.unraisablehook, sys.excepthook)
assert threading.active_count() == 1
"""
_PRUNING = """
import os, signal, sys, threading
import torch
from open_prune import prune

class Net(torch.nn.Linear):
    def forward(self, images):
        if {is_interrupted}:
            os.kill(os.getpid(), signal.SIGINT)
        return super().forward(images)

def pruned():
    examples = torch.randn(8, 4), torch.arange(8) % 2
    return prune(torch.nn.Sequential(Net(4, 2)), "snip4", density=0.5, examples=examples, seed=0)
"""


def test_the_library_leaves_signals_to_the_program_that_imports_it() -> None:
    done = _python(_HANDLERS)

    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_the_library_prunes_is_a_keyboard_interrupt() -> None:
    caught = """
try:
    pruned()
except KeyboardInterrupt as error:
    print(type(error).__name__)
"""
    done = interpreter.run(["-c", _PRUNING.format(is_interrupted=True) + caught], REPOSITORY)

    assert (done.stdout, done.stderr) == ("KeyboardInterrupt\n", "")


def test_the_library_prunes_in_any_thread() -> None:
    in_thread = """
found = []
thread = threading.Thread(target=lambda: found.append(pruned()))
thread.start()
thread.join()
print(len(found))
"""
    done = interpreter.run(["-c", _PRUNING.format(is_interrupted=False) + in_thread], REPOSITORY)

    assert (done.stdout, done.stderr) == ("1\n", "")


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
