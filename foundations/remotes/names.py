"""Names of remotes: the table `[remotes]` of the site's settings file.

[remotes]
lab = "s3://bucket/prefix"
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from foundations.errors import EnvironmentFailure, UsageError, choose_from
from foundations.files import read_file, write_atomically
from foundations.remotes.storage import check_url

TABLE = "remotes"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_HEADING = re.compile(rf"\s*\[\s*{TABLE}\s*\]\s*(#.*)?")


def named_remotes(path: Path | None) -> dict[str, str]:
    """Return the URLs of the remotes that a settings file names. path: None where there is no file.

    Raises: UsageError that names the file; EnvironmentFailure where it cannot be read.
    """
    return remotes_in(_parsed(path), path) if path is not None and path.is_file() else {}


def remotes_in(settings: Mapping[str, object], path: Path) -> dict[str, str]:
    """Return the URLs of the remotes in parsed settings. Raises: UsageError that names the file."""
    found = settings.get(TABLE, {})
    if not isinstance(found, dict) or not all(isinstance(url, str) for url in found.values()):
        raise UsageError(f'{path}: {TABLE} is a table of names and URLs: [{TABLE}] and lab = "s3://bucket/prefix".')
    for name, url in found.items():
        try:
            _check_name(name)
            check_url(url)
        except UsageError as error:
            raise UsageError(f"{path}: {TABLE}.{name[:40]!r}: {error.reason}") from error
    return dict(found)


def url_of(remote: str, path: Path | None) -> str:
    """Return the URL of a remote that is given by URL or name. Raises: UsageError for anything else."""
    if ":" in remote:
        check_url(remote)
        return remote
    if remote.startswith(("/", "~", ".")):
        folder = Path(remote).expanduser().absolute()
        raise UsageError(f"'{remote}' is a path; write {folder.as_uri()}")
    known = named_remotes(path)
    if remote not in known:
        where = choose_from(remote, known) if known else "; `remote add NAME URL` names one."
        raise UsageError(f"'{remote}' is neither a URL nor the name of a remote{where}")
    return known[remote]


def add_remote(name: str, url: str, path: Path) -> None:
    """Name a remote in a settings file, which is made if it is missing. Raises: UsageError where the name is taken."""
    _check_name(name)
    check_url(url)
    _check_file(path)
    known = named_remotes(path)
    if known.get(name, url) != url:
        raise UsageError(f"'{name}' is {known[name]} already; `remote rm {name}` frees the name.")
    if name in known:
        return
    lines = _text(path).splitlines()
    quoted = url.replace("\\", "\\\\").replace('"', '\\"')
    heading = next((number for number, line in enumerate(lines) if _HEADING.fullmatch(line)), None)
    if heading is None:
        lines += [*([""] if lines else []), f"[{TABLE}]"]
        heading = len(lines) - 1
    lines.insert(heading + 1, f'{name} = "{quoted}"')
    _replace(path, lines, {**known, name: url})


def remove_remote(name: str, path: Path | None) -> None:
    """Remove a name from a settings file; the remote itself stays. Raises: UsageError for an unknown name."""
    known = named_remotes(path)
    if name not in known or path is None:
        where = choose_from(name, known) if known else "; none is named."
        raise UsageError(f"'{name}' is not the name of a remote{where}")
    own = re.compile(rf"""\s*(["']?){re.escape(name)}\1\s*=.*""")
    lines, kept, is_inside = _text(path).splitlines(), list[str](), False
    for line in lines:
        is_inside = bool(_HEADING.fullmatch(line)) if line.lstrip().startswith("[") else is_inside
        if not (is_inside and own.fullmatch(line)):
            kept.append(line)
    _replace(path, kept, {each: url for each, url in known.items() if each != name})


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError("the name of a remote has letters, digits, - and _, begins with a letter, and is short.")


def _check_file(path: Path) -> None:
    """Raise EnvironmentFailure where something else than a file would be replaced, such as a device."""
    if os.path.lexists(path) and not path.is_file():
        raise EnvironmentFailure(f"{path} is not a file. OPEN_PRUNE_SITE names the file for the settings of the site.")


def _replace(path: Path, lines: list[str], expected: Mapping[str, str]) -> None:
    """Write the settings file, if its new text names exactly the expected remotes."""
    text = "\n".join(lines) + "\n"
    try:
        found = tomllib.loads(text).get(TABLE, {})
    except tomllib.TOMLDecodeError:
        found = None
    if found != expected:
        raise EnvironmentFailure(
            f"{path} is written in a form that this command cannot change. Edit it by hand: [{TABLE}] holds "
            'lines such as lab = "s3://bucket/prefix".'
        )
    _check_file(path)
    write_atomically(path.resolve(), text.encode())  # a link stays a link


def _text(path: Path) -> str:
    return read_file(path).decode() if path.is_file() else ""


def _parsed(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(read_file(path).decode())
    except OSError as error:
        raise EnvironmentFailure(f"The site's settings in {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
