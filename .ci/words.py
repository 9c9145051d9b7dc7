"""Check the prose of docstrings, comments, messages and pages for faults by patterns. Part of `make lint`.

Prints a line for each fault, and exits with 1 if there is one.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

OPENINGS = re.compile(r"(What|How|Which|Where|Why|When|Who)\b|Return (what|which|how|where)\b")
"""A docstring begins with a noun, or with a verb and its object."""
WORDS = {
    r"\banew\b": "again, or from scratch",
    r"\b(draws?|drawn|drawing) (up)?on\b": "depends on, or uses",
    r"\b(is|are|was|were|be|been) said\b": "name who says it: the message names, the help says",
    r"\bsa(id|ys?) so\b": "a message says it, or is listed",
    r"\b(has|have|had) not (?!been\b)(?=\W|$)": "does not have",
    r"\bof use to nobody\b": "stale, or unused",
    r"\bvouche?s? for\b": "proves, or has a checksum",
    r"\bwhat (it|they|some \w+) comes? to\b": "its result",
    r"\bsa(y|ys|ying) nothing\b": "is silent",
    r"\bbrought about\b": "caused",
    r"\b(un)?spelling of\b": "name of",
    r"(?<!there )\b(is|are|was|were) no (?!(longer|more|less|such|better|smaller|larger|reason)\b)": "is not a",
    r"\bwhich says itself\b|\bmay not be looked into\b": "plain words",
    r"\belided\b": "omitted",
    r"\bthereby\b|\bwhereby\b|\bhitherto\b|\bnot any ?more\b": "plain words",
}
"""Patterns, and words to write instead."""
IGNORED = ("CHANGELOG.md", ".ci/words.py")


def passages(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield line, text, and whether the text is a whole docstring, of all the prose of a file.

    Messages are the literals outside tests.
    """
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        without_code = re.sub(r"```.*?```", lambda code: re.sub(r"[^\n]", "", code[0]), content, flags=re.DOTALL)
        for number, line in enumerate(without_code.split("\n"), 1):
            yield number, re.sub(r"`[^`]*`", "", line), False
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value, True
        elif path.parts[0] != "tests":
            yield from messages(node)
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False


def messages(node: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Yield the text of a literal, if it has several words, as messages have; VALUE stands for an inserted value."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [each.value if isinstance(each, ast.Constant) else "VALUE" for each in parts]
    if all(isinstance(text, str) for text in texts) and " " in "".join(texts).strip():
        yield getattr(parts[0], "lineno", 0), "".join(texts), False


def faults(path: Path) -> Iterator[str]:
    """Yield the faults of a file, each as a line that names its place."""
    for line, text, is_docstring in passages(path):
        opening = OPENINGS.match(text.strip()) if is_docstring else None
        if opening:
            yield f"{path}:{line}: a docstring begins with '{opening[0]}': begin with a noun, or a verb and its object"
        for pattern, better in WORDS.items():
            for match in re.finditer(pattern, re.sub(r"``?[^`]*``?", "", text), flags=re.IGNORECASE):
                yield f"{path}:{line}: '{match[0]}': {better}"


def main() -> int:
    """Check all files that git knows, but tests' own sentences."""
    listed = subprocess.run(["git", "ls-files", "*.py", "*.md"], capture_output=True, text=True, check=True)
    paths = [Path(name) for name in listed.stdout.split("\n") if name and name not in IGNORED]
    found = dict.fromkeys(fault for path in paths if path.exists() for fault in faults(path))
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
