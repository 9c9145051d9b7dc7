"""Counts the lines of code by floor: without tests, docstrings, comments, blank lines and imports.

`python .ci/code_lines.py` counts the working tree, `python .ci/code_lines.py COMMIT ...` one or more commits,
and `--rooms` counts by folder.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tokenize
from collections import Counter
from pathlib import Path, PurePosixPath

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Return the number of lines of a Python file that hold code."""
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if isinstance(node, ast.stmt) and (text or isinstance(node, ast.Import | ast.ImportFrom)):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - left_out)


def sources(commit: str | None) -> dict[str, str]:
    """Return the text of each Python file but tests, by its path, of the working tree or of a commit."""
    listing = ["git", "ls-files"] if commit is None else ["git", "ls-tree", "-r", "--name-only", commit]
    paths = [path for path in _output(listing).split("\n") if path.endswith(".py") and not path.startswith("tests/")]
    if commit is None:
        return {path: Path(path).read_text() for path in paths if Path(path).exists()}
    return {path: _output(["git", "show", f"{commit}:{path}"]) for path in paths}


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Print a row for each floor or room, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", action="store_true", help="count by folder, not by floor")
    parser.add_argument("commits", nargs="*", metavar="COMMIT")
    arguments = parser.parse_args()
    for commit in arguments.commits or [None]:
        files, lines, code = Counter[str](), Counter[str](), Counter[str]()
        for path, source in sources(commit).items():
            parts = PurePosixPath(path).parent.parts
            for place in {"/".join(parts) if arguments.rooms else (*parts, path)[0], "all"}:
                files[place] += 1
                lines[place] += len(source.splitlines())
                code[place] += code_lines(source)
        print(f"{commit or 'working tree':24}{'files':>8}{'lines':>8}{'code':>8}")
        for place in sorted(files, key=lambda name: (name == "all", name)):
            print(f"{place or '.':24}{files[place]:8}{lines[place]:8}{code[place]:8}")


if __name__ == "__main__":
    main()
