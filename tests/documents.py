"""The examples in README.md and docs/, as tests run them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import interpreter
from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY

README = REPOSITORY / "README.md"
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
_SHORTER = ("--model_name=digits_resnet_8_8", "--subsample_fraction=0.2", "--batch_size=60", "--evaluate_only_at_end")
"""Five iterations an epoch of digits in place of 23, sixty in all: every step that is named is within them."""


def commands_of(text: str) -> list[str]:
    """Return the commands of the bash blocks that start with `python open_prune.py`."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("python open_prune.py")]


def python_blocks_of(text: str) -> list[str]:
    """Return the Python blocks."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def links_of(text: str) -> list[str]:
    """Return the relative links and images outside code, `page.md#anchor` and the like."""
    prose = _prose_of(text)
    found = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'<img [^>]*src="([^"]+)"', prose)
    return [link for link in found if not re.match("[a-z]+:", link)]


def anchors_of(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", _prose_of(text), flags=re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-")
        number = next(n for n in itertools.count() if _numbered(words, n) not in anchors)
        anchors.add(_numbered(words, number))
    return anchors


def _numbered(words: str, number: int) -> str:
    """Return the anchor of the heading with some words that comes after `number` others with the same words."""
    return f"{words}-{number}" if number else words


def _prose_of(text: str) -> str:
    """Return the text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def shortened(words: list[str]) -> list[str]:
    """Return the arguments of a command that takes less time."""
    return [*words, *(_SHORTER if "--default_hparams=digits_resnet_8" in words else ())]


def run_commands(commands: Sequence[str], folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Run commands in order, each in a process of its own, with arguments that may be changed and `~` as the folder."""
    terminal = Terminal(folder / "runs", folder / "datasets", {"HOME": str(folder)})
    for command in commands:
        words = shlex.split(command, comments=True)[2:]
        result = terminal.run(*change([re.sub("^~(?=/)", str(folder), word) for word in words]))
        assert result.code == 0, f"{command}\n{result.out}{result.err}"


def run_blocks(blocks: Sequence[str], *, is_bare: bool = False) -> None:
    """Run blocks of Python in the repository, each in a new interpreter. is_bare: not even torch is imported there."""
    for block in blocks:
        done = (interpreter.run_bare if is_bare else interpreter.run)(["-c", block], REPOSITORY)
        assert done.returncode == 0, done.stderr
