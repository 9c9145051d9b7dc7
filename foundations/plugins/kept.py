"""The files of the plug-ins that computed the runs of a root: `<root>/.plugins/<SHA-256>/<name>.py`, each version once.

A run is created with the file beside it, so what computed it stays when the user's own file changes. A kept file is
executed only where nobody else can have chosen it: root and file belong to the user, who has run a plug-in of this
SHA-256 before (a list of these is in the user's own folder), and the run was not imported. Otherwise `--plugin` asks
for it by name. The same holds for an upstream and the files that it keeps for its runs. Only the file itself is kept.
What it imports counts as a library, and is looked for where the user's own list says that the file lay: a root that is
somebody else's work could name any folder, and hold modules itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from foundations.errors import EnvironmentFailure
from foundations.files import read_file, write_atomically
from foundations.home import used_plugins_file
from foundations.plugins.plugins import load_plugin
from foundations.plugins.users_code import is_kept
from foundations.registry import KEPT, Plugin, loaded_plugin

if TYPE_CHECKING:
    from foundations.storage.run import Run

_IMPORTED = "import_"
"""The prefix of the folders of imported runs."""


def kept_path(plugin: Plugin, root: Path) -> Path:
    """Return the path for the kept file of a plug-in under a root, whether or not it exists."""
    return root / KEPT / plugin.sha256 / f"{plugin.name}.py"


def keep_plugins(plugins: Iterable[Plugin], root: Path) -> None:
    """Keep the files of loaded plug-ins under a root, and note that the user has run them.

    Raises: EnvironmentFailure where the root cannot be written.
    """
    for plugin in plugins:
        path = kept_path(plugin, root)
        if plugin.source and kept_source(plugin, root) is None:
            write_atomically(path, plugin.source)
        _note_use(plugin)


def kept_source(plugin: Plugin, root: Path) -> bytes | None:
    """Return the bytes of a kept file, or None where it is missing or has changed."""
    if Path(plugin.name).name != plugin.name or not plugin.sha256.isalnum():
        return None
    try:
        source = read_file(kept_path(plugin, root))
    except OSError:
        return None
    return source if hashlib.sha256(source).hexdigest() == plugin.sha256 else None


def load_kept(plugins: Iterable[Plugin], run: Run) -> None:
    """Load the plug-ins that a run needs from the files that its root keeps, as far as these may be executed unasked.

    If another version of a plug-in is loaded, that one stays: `check_loaded` reports it.
    """
    for plugin in plugins:
        if loaded_plugin(plugin.name) is None and may_load(plugin, run):
            load_plugin(kept_path(plugin, run.home), plugin.sha256, beside=_used().get(plugin.sha256))


def may_load(plugin: Plugin, run: Run) -> bool:
    """Return whether the kept file of a run's plug-in exists and may be executed without `--plugin`."""
    if run.location.training.startswith(_IMPORTED) or kept_source(plugin, run.home) is None:
        return False
    try:
        owners = {os.stat(path).st_uid for path in (run.home, kept_path(plugin, run.home))}  # noqa: PTH116
    except OSError:
        return False
    return owners == {os.geteuid()} and plugin.sha256 in _used()


def how_to_load(plugin: Plugin, run: Run) -> str:
    """Return a sentence with the flag that loads the kept file of a plug-in; empty if the file is not kept."""
    if kept_source(plugin, run.home) is None:
        return ""
    return f"The run's own version is kept. Look at it, then add --plugin={kept_path(plugin, run.home)}"


def _used() -> dict[str, Path | None]:
    """Return the plug-ins that the user has run: by SHA-256, the folder in which the file lay last, if known."""
    found: dict[str, Path | None] = {}
    with contextlib.suppress(OSError, EnvironmentFailure, ValueError):
        for line in read_file(used_plugins_file()).decode().splitlines():
            sha256, _, folder = line.partition(" ")
            found[sha256] = Path(folder) if folder else found.get(sha256)
    return found


def _note_use(plugin: Plugin) -> None:
    """Record that the user has run a plug-in, and the folder of the modules beside it.

    If that fails, kept files have to be named with `--plugin`.
    """
    used, folder = _used(), None if is_kept(plugin.path) else plugin.path.parent
    if plugin.sha256 in used and folder in (None, used[plugin.sha256]):
        return
    line = plugin.sha256 if folder is None or not str(folder).isprintable() else f"{plugin.sha256} {folder}"
    with contextlib.suppress(OSError, EnvironmentFailure):
        path = used_plugins_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{line}\n")
