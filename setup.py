"""Builds the package `open_prune`, which holds the top-level packages of the repository as subpackages.

Installed packages share a folder, and `datasets` there is Hugging Face's. So the wheel has one package, and the build
rewrites imports as it copies files: `from datasets.spec import Split` becomes
`from open_prune.datasets.spec import Split`. Nothing else in a file changes, so that lines keep their numbers, and type
checkers and editors read the installed package like any other. `foundations.registry`, which knows its own package,
resolves modules that are named in strings, such as registries.
"""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

PACKAGE = "open_prune"
NOT_SHIPPED = {"tests", "benchmarks", "examples"}
MAIN = "import sys\n\nfrom open_prune import main\n\nsys.exit(main())\n"
"""`python -m open_prune`."""


def floors(root: Path) -> list[str]:
    """Return the names of the top-level packages to ship."""
    found = {path.parent.name for path in root.glob("*/__init__.py")}
    return sorted(found - NOT_SHIPPED)


def shipped(root: Path) -> dict[Path, Path]:
    """Return the files to ship, and the place of each in the wheel."""
    inside = [
        path
        for floor in floors(root)
        for path in sorted((root / floor).rglob("*"))
        if path.is_file() and path.parent.name != "__pycache__" and not path.name.startswith(".")
    ]
    files = {path: PACKAGE / path.relative_to(root) for path in inside}
    return {root / "open_prune.py": Path(PACKAGE, "__init__.py"), **files}


def relocated(source: bytes, packages: Collection[str]) -> bytes:
    """Return a Python file with its imports of some top-level packages changed to the packages in `open_prune`.

    Raises: ValueError for an import of one of them that binds the package's own name, or spans several lines.
    """
    lines = source.split(b"\n")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    imports.sort(key=lambda node: (node.lineno, node.col_offset))
    for node in reversed(imports):  # last first, so that the columns of earlier ones stay valid
        if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] in packages for alias in node.names):
            raise ValueError(f"line {node.lineno}: write `from package import module` in place of `import`")
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in packages and not node.level:
            line, before = lines[node.lineno - 1], node.col_offset
            start = b"from "
            if not line.startswith(start + str(node.module).encode(), before):
                raise ValueError(f"line {node.lineno}: write `from {node.module} import ...` in one line")
            after = before + len(start)
            lines[node.lineno - 1] = line[:after] + f"{PACKAGE}.".encode() + line[after:]
    return b"\n".join(lines)


class BuildPackage(build_py):  # type: ignore[misc]
    """Copies the files to ship to their places in the package."""

    def run(self) -> None:
        """Write the package from scratch."""
        root, target = Path(), Path(self.build_lib)
        packages = floors(root)
        shutil.rmtree(target / PACKAGE, ignore_errors=True)  # do not ship files that were removed since the last build
        for source, place in shipped(root).items():
            content = source.read_bytes()
            if source.suffix == ".py":
                try:
                    content = relocated(content, packages)
                except ValueError as error:
                    raise ValueError(f"{source}, {error}") from error
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            (target / place).write_bytes(content)
        (target / PACKAGE / "__main__.py").write_text(MAIN)
        (target / PACKAGE / "py.typed").touch()

    def get_source_files(self) -> list[str]:
        """Return the files of a source distribution."""
        return [str(path) for path in shipped(Path())]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return the files that `run` has written."""
        return [str(path) for path in (Path(self.build_lib) / PACKAGE).rglob("*") if path.is_file()]


class RefuseEditable(editable_wheel):  # type: ignore[misc]
    """Refuses editable installs, which would put the top-level packages beside those of other projects."""

    def run(self) -> NoReturn:
        """Refuse, and name the commands that work."""
        here = Path.cwd()
        raise SystemExit(
            "open_prune cannot be installed in editable mode: its folder `datasets` would hide Hugging Face's.\n"
            f"Install a copy, again after each change: {sys.executable} -m pip install {here}\n"
            f"Or run the repository itself, from any folder: {sys.executable} {here / 'open_prune.py'}"
        )


if __name__ == "__main__":
    setup(
        packages=[PACKAGE],
        include_package_data=False,
        cmdclass={"build_py": BuildPackage, "editable_wheel": RefuseEditable},
    )
