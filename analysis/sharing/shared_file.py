"""Shared files: runs, their plug-ins, a table and a report as one file (docs/sharing.md). Imports no torch.

    share.json                  the runs, and size and SHA-256 of every other member; sealed JSON
    share.sig.json              the signature of share.json, if the file is signed
    plugins/<SHA-256>/<name>.py
    report.html, table.txt      for people; `import` ignores them
    runs/<location>/<name>      files of runs, as they are in the root

An uncompressed tar archive (`foundations.plain_tar`), its members in this order and by name. The same runs give the
same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.rows.run_row import row_of
from foundations.description.address import MAIN, Location
from foundations.description.step import Step
from foundations.errors import DamagedError, UsageError
from foundations.files import check_regular, explain_os_errors, read_file, replacing
from foundations.packs import open_file
from foundations.plain_tar import END, write_entry
from foundations.plugins.kept import kept_source
from foundations.registry import plugins_of
from foundations.storage import sealed_json, signatures
from foundations.storage.manifest import FileRecord, Manifest, manifest_name
from foundations.storage.run import MANIFEST, STATE, Run
from foundations.storage.store import source_runs

INDEX, SIGNATURE = "share.json", "share.sig.json"
REPORT, TABLE = "report.html", "table.txt"
PLUGINS, RUNS = "plugins", "runs"
FORM = 1
"""The version of the format, in the member `share` of share.json."""
PURPOSE = "index of a shared file"
"""The purpose of signatures of shared files."""
STATES = ("none", "last", "all")
"""The states that go along."""
AMENDED = manifest_name(2)
"""The manifest that counts, if it is not the first."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file in a shared file: its bytes, or its path and its record."""

    record: FileRecord
    content: bytes | Path

    @classmethod
    def of(cls, content: bytes) -> Member:
        """Return the member with some content."""
        return cls(FileRecord(len(content), hashlib.sha256(content).hexdigest()), content)

    def pieces(self) -> Iterator[bytes]:
        """Yield the content. Raises: DamagedError if a file is not what its record says; OSError."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        digest, size = hashlib.sha256(), 0
        with open_file(self.content) as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
                size += len(piece)
                if size > self.record.size:
                    break
                yield piece
        if FileRecord(size, digest.hexdigest()) != self.record:
            raise DamagedError(f"{self.content} is damaged: it is not what its manifest says.")


@dataclass(frozen=True)
class Shared:
    """The content of a shared file that was written."""

    runs: tuple[Run, ...]
    not_complete: tuple[Run, ...]
    """Runs that were asked for, or that others depend on, and are not in the file."""
    states_left_out: int
    bytes_left_out: int
    lost: tuple[Run, ...]
    """Imported runs whose states are left out and cannot be computed again."""
    plugins: tuple[str, ...]
    missing_plugins: tuple[str, ...]
    """Plug-ins whose files the root does not keep."""


def with_ancestors(runs: Sequence[Run]) -> list[Run]:
    """Return some runs, the runs that they depend on, and their trainings; each once, ordered by location.

    Raises: DamagedError if a description cannot be read.
    """
    found: dict[Location, Run] = {}
    waiting = list(runs)
    while waiting:
        run = waiting.pop()
        if run.location not in found:
            found[run.location] = run
            main = Run(run.root, Location(run.location.training, run.location.replicate, MAIN))
            waiting += [main] if main.exists() else []
            waiting += source_runs(run) if run.exists() else []
    return [found[location] for location in sorted(found, key=str)]


def write_shared(
    runs: Sequence[Run],
    path: Path,
    *,
    states: str = "none",
    key_file: Path | None = None,
    pages: Callable[[Sequence[Run]], dict[str, bytes]] = lambda _: {},
) -> Shared:
    """Write the complete ones of some runs and of those that they depend on as one file.

    states: one of `STATES`. key_file: the private key that signs it, if any. pages: returns the members for people.
    Raises: DamagedError if a file is not what its manifest says; EnvironmentFailure; UsageError if none is complete.
    """
    members: dict[str, Member] = {}
    shared: list[Run] = []
    others: list[Run] = []
    left: list[FileRecord] = []
    lost: list[Run] = []
    for run in with_ancestors(runs):
        manifest = run.manifest() if run.exists() else None
        if manifest is None:
            others.append(run)
            continue
        shared.append(run)
        kept = chosen_files(run, manifest, states)
        left += [record for name, record in manifest.files.items() if name not in kept]
        if len(kept) < len(manifest.files) and run.location.training.startswith("import_"):
            lost.append(run)
        members |= _members_of(run, manifest, kept)
    if not shared:
        raise UsageError("none of these runs is complete, so there is nothing to share.")
    plugins, missing = _plugins(shared)
    members |= plugins
    members |= {name: Member.of(content) for name, content in pages(shared).items()}
    _write(path, shared, members, key_file)
    return Shared(
        runs=tuple(shared),
        not_complete=tuple(others),
        states_left_out=len(left),
        bytes_left_out=sum(record.size for record in left),
        lost=tuple(lost),
        plugins=tuple(Path(name).stem for name in plugins),
        missing_plugins=tuple(missing),
    )


def _write(path: Path, runs: Sequence[Run], members: dict[str, Member], key_file: Path | None) -> None:
    ordered = sorted(members)
    index = sealed_json.to_bytes(
        {
            "share": FORM,
            "runs": [str(run) for run in runs],
            "members": {
                name: {"size": members[name].record.size, "sha256": members[name].record.sha256} for name in ordered
            },
        }
    )
    first = {INDEX: Member.of(index)}
    if key_file is not None:
        first[SIGNATURE] = Member.of(signatures.sign(PURPOSE, index, key_file).to_bytes())
    with explain_os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            for name, member in (*first.items(), *((name, members[name]) for name in ordered)):
                write_entry(file.write, name, member.record.size, member.pieces())
            file.write(END)


def chosen_files(run: Run, manifest: Manifest, states: str) -> list[str]:
    """Return the files of a run that go along."""
    per_epoch = int(run.record()["iterations_per_epoch"])
    found = {name: match for name in manifest.files if (match := STATE.fullmatch(name))}
    steps = {name: Step(int(match[1]) * per_epoch + int(match[2]), per_epoch) for name, match in found.items()}
    kept = (
        set(steps) if states == "all" else {max(steps, key=steps.__getitem__)} if states == "last" and steps else set()
    )
    return [name for name in manifest.files if name not in steps or name in kept]


def _members_of(run: Run, manifest: Manifest, names: Sequence[str]) -> dict[str, Member]:
    folder = f"{RUNS}/{run}"
    found = {f"{folder}/{name}": Member(manifest.files[name], run.path(name)) for name in names}
    with explain_os_errors("read", run.folder):
        found[f"{folder}/{MANIFEST}"] = Member.of(read_file(run.path(MANIFEST)))
        first = run.first_manifest()
        if first is not None and first.files != manifest.files:
            found[f"{folder}/{AMENDED}"] = Member.of(read_file(run.path(manifest_name(run.manifest_number()))))
    return found


def _plugins(runs: Sequence[Run]) -> tuple[dict[str, Member], list[str]]:
    """Return the kept files of the runs' plug-ins, and the names of plug-ins whose files are not kept."""
    found: dict[str, Member] = {}
    missing: list[str] = []
    for run in runs:
        record = run.record()
        for plugin in (*plugins_of(record.get("main", {})), *plugins_of(record)):
            source = kept_source(plugin, run.home)
            if source is None:
                missing.append(plugin.name)
            else:
                found[f"{PLUGINS}/{plugin.sha256}/{plugin.name}.py"] = Member.of(source)
    return found, list(dict.fromkeys(missing))


def pages_for(runs: Sequence[Run], say: Callable[[str], None]) -> dict[str, bytes]:
    """Return the table and the report on some runs, as members of a shared file. say: is told what there is not."""
    from analysis.report.page import page_of
    from analysis.report.render import html_of
    from analysis.rows.result_value import Value
    from analysis.tables.table import TableOptions, make_table

    rows = [row_of(run) for run in runs]
    found: dict[str, bytes] = {}
    try:
        table = make_table(rows, TableOptions())
        found[TABLE] = "\n".join([str(table), *table.notes, ""]).encode()
    except UsageError as error:
        say(f"No {TABLE}: {error.reason}")
    try:
        found[REPORT] = html_of(page_of(rows, Value.of_runs(None, rows[:1]))).encode(errors="replace")
    except UsageError as error:
        say(f"No {REPORT}: {error.reason}")
    return found


def is_shared(path: Path) -> bool:
    """Return whether a file begins like a shared file."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            return file.read(len(INDEX) + 1) == f"{INDEX}\0".encode()
    except OSError:
        return False
