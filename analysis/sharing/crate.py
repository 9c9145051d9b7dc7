"""An RO-Crate of runs, by the profile Workflow Run Crate: a folder that other tools for research data can read.

The workflow is the sweep that asks for the runs, or the list of their descriptions. Its execution is an action whose
parameters are the hyperparameters in which the runs differ, and whose results are the folders of the runs. Each run is
an action of its own.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.compare.points import differences
from analysis.rows.run_row import Row, row_of
from analysis.sharing.shared_file import AMENDED, RUNS, chosen_files
from foundations.errors import EnvironmentFailure, UsageError
from foundations.files import explain_os_errors, publish_folder
from foundations.packs import as_plain_file
from foundations.parts import part_of
from foundations.program import version
from foundations.storage.manifest import Manifest
from foundations.storage.run import MANIFEST, Run
from foundations.storage.store import short_address, source_runs

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.model.file import File
    from rocrate.rocrate import ROCrate

VERSION = "1.1"
"""The version of RO-Crate on which the profiles build."""
_WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    _WORKFLOW_CRATE: "Workflow RO-Crate",
}
_COMPLETED = "http://schema.org/CompletedActionStatus"


@dataclass(frozen=True)
class Crate:
    """A crate that was written."""

    folder: Path
    runs: tuple[Run, ...]
    not_complete: tuple[Run, ...]


@dataclass(frozen=True)
class Facts:
    """The facts about a crate that people state."""

    name: str = "Runs of open_prune"
    author: str = ""
    license: str = "not stated"


def write_crate(
    runs: Sequence[Run],
    folder: Path,
    facts: Facts,
    *,
    sweep: Path | None = None,
    states: str = "none",
    pages: Mapping[str, bytes] | None = None,
) -> Crate:
    """Write the complete ones of some runs as an RO-Crate.

    sweep: the file that asks for them. states: one of `analysis.sharing.shared_file.STATES`. pages: further files.
    Raises: UsageError if none is complete, or the folder is not empty; EnvironmentFailure, also without `rocrate`.
    """
    try:
        import rocrate.rocrate  # noqa: F401
    except ImportError as error:
        raise EnvironmentFailure("A crate needs the package rocrate: pip install rocrate") from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not an empty folder; name another one.")
    complete = [(run, manifest) for run in runs if run.exists() and (manifest := run.manifest()) is not None]
    if not complete:
        raise UsageError("none of these runs is complete, so there is nothing for a crate.")
    part = part_of(folder)
    with explain_os_errors("write", folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        try:
            _Writer(part, complete, facts).write(sweep, states, pages or {})
            publish_folder(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    done = {run.location for run, _ in complete}
    return Crate(folder, tuple(run for run, _ in complete), tuple(run for run in runs if run.location not in done))


class _Writer:
    """Writes files into a folder, and the metadata about them at the end."""

    def __init__(self, folder: Path, runs: Sequence[tuple[Run, Manifest]], facts: Facts) -> None:
        from rocrate.rocrate import ROCrate

        self._folder, self._runs, self._facts = folder, runs, facts
        self._crate: ROCrate = ROCrate(version=VERSION)
        self._last = max(manifest.finished for _, manifest in runs)[:10]

    def write(self, sweep: Path | None, states: str, pages: Mapping[str, bytes]) -> None:
        """Write the crate."""
        crate, facts = self._crate, self._facts
        root = crate.root_dataset
        is_url = facts.license.startswith("http")
        root["name"], root["datePublished"] = facts.name, self._last
        root["description"] = f"{len(self._runs)} runs of open_prune: descriptions, metrics, masks and manifests."
        root["license"] = self._add(facts.license, "CreativeWork", name="license") if is_url else facts.license
        for profile, name in PROFILES.items():
            number = profile.rpartition("/")[2]
            root.append_to("conformsTo", self._add(profile, "CreativeWork", name=name, version=number))
        program = self._add("#open_prune", "SoftwareApplication", name="open_prune", softwareVersion=version())
        author = self._add("#author", "Person", name=facts.author) if facts.author else None
        workflow = self._workflow(sweep)
        folders = {run.location: self._run(run, manifest, states) for run, manifest in self._runs}
        for name, content in pages.items():
            self._file(name, content, f"On all runs, for people: {name}")
        readme = f"# {facts.name}\n\n{root['description']} `ro-crate-metadata.json` says what is in which file.\n"
        self._file("README.md", readme.encode(), "About the crate.", about=root)
        by = {"agent": author} if author is not None else {}
        if author is not None:
            root["author"] = author
        self._actions(folders, program, by)
        inputs = self._parameters(workflow, [row_of(run) for run, _ in self._runs])
        output = self._formal("runs", "Dataset", "The folders of the runs.")
        output["workExample"] = _one_or_all(list(folders.values()))
        for entity in folders.values():
            entity["exampleOfWork"] = output
        workflow["output"] = output
        sweep_action = self._add(
            "#sweep",
            "CreateAction",
            name="Execution of the sweep",
            description=f"Computed {len(folders)} runs.",
            instrument=workflow,
            object=inputs,
            result=_one_or_all(list(folders.values())),
            endTime=self._last,
            actionStatus=_COMPLETED,
            **by,
        )
        root.append_to("mentions", sweep_action)
        crate.write(self._folder)

    def _add(self, identifier: str, kind: str, /, **properties: Any) -> Entity:
        from rocrate.model.contextentity import ContextEntity

        return self._crate.add(ContextEntity(self._crate, identifier, {"@type": kind, **properties}))

    def _file(self, name: str, content: bytes, description: str, make: type[File] | None = None, **more: Any) -> Entity:
        """Write a file, and describe it. make: the class of the entity; by default that of plain files."""
        from rocrate.model.file import File

        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        facts = {"name": Path(name).name, "description": description, "contentSize": str(len(content))}
        properties = {**facts, "encodingFormat": _format(name), **more}
        return self._crate.add((make or File)(self._crate, path, name, properties=properties))

    def _workflow(self, sweep: Path | None) -> Entity:
        """Add the main entity: the sweep's file, or the descriptions of the runs."""
        from rocrate.model.computationalworkflow import ComputationalWorkflow

        if sweep is not None:
            name, content = "sweep.toml", sweep.read_bytes()
        else:
            records = {str(run): run.record() for run, _ in self._runs}
            name, content = "descriptions.json", (json.dumps(records, indent=1, sort_keys=True) + "\n").encode()
        language = self._add("#open_prune_sweep", "ComputerLanguage", name="open_prune sweep")
        workflow = self._file(name, content, "The runs that are asked for.", make=ComputationalWorkflow, version="1")
        workflow["programmingLanguage"] = language
        workflow["conformsTo"] = {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"}
        self._crate.mainEntity = workflow
        descriptor = self._crate.metadata
        descriptor["conformsTo"] = [{"@id": f"https://w3id.org/ro/crate/{VERSION}"}, {"@id": _WORKFLOW_CRATE}]
        return workflow

    def _run(self, run: Run, manifest: Manifest, states: str) -> Entity:
        """Copy the files of a run, with a manifest that lists them beside the one of its completion; add its folder."""
        folder, parts = self._folder / RUNS / str(run), []
        files = {name: manifest.files[name] for name in chosen_files(run, manifest, states)}
        folder.mkdir(parents=True, exist_ok=True)
        for name in [*files, MANIFEST]:
            with as_plain_file(run.path(name)) as plain:
                shutil.copyfile(plain, folder / name)
        first = run.first_manifest()
        if first is not None and first.files != files:
            (folder / AMENDED).write_bytes(dataclasses.replace(manifest, files=files).to_bytes())
        for path in sorted(folder.iterdir()):
            name = path.name
            properties = {"name": name, "encodingFormat": _format(name), "contentSize": str(path.stat().st_size)}
            parts.append(self._crate.add_file(path, f"{RUNS}/{run}/{name}", properties=properties))
        results = {name: value for name, value in manifest.results.items() if value is not None}
        described = ", ".join(f"{name} {value:.6g}" for name, value in sorted(results.items()))
        about = {"name": short_address(run), "description": described or "No results."}
        return self._crate.add_dataset(dest_path=f"{RUNS}/{run}/", properties={**about, "hasPart": parts})

    def _actions(self, folders: Mapping[Any, Entity], program: Entity, by: Mapping[str, Entity]) -> None:
        """Add an action for each run: by which program, from which other runs, with which description."""
        for run, manifest in self._runs:
            folder, name = folders[run.location], f"{RUNS}/{run}/description.json"
            sources = [folders[each.location] for each in source_runs(run) if each.location in folders]
            action = self._add(
                f"#{short_address(run)}",
                "CreateAction",
                name=f"Computation of {short_address(run)}",
                description=f"Took {manifest.wall_seconds:.6g} seconds on {manifest.device or 'an unknown device'}.",
                instrument=program,
                object=_one_or_all([self._crate.dereference(name), *sources]),
                result=folder,
                endTime=manifest.finished[:10],
                actionStatus=_COMPLETED,
                **by,
            )
            self._crate.root_dataset.append_to("mentions", action)

    def _parameters(self, workflow: Entity, rows: Sequence[Row]) -> list[Entity]:
        """Add the hyperparameters in which the runs differ, with their values."""
        values: list[Entity] = []
        parameters: list[Entity] = []
        for name, found in differences(rows).items():
            parameter = self._formal(name, "Text", f"The hyperparameter {name}.")
            own = [
                self._add(f"#{name}/{number}", "PropertyValue", name=name, value=text, exampleOfWork=parameter)
                for number, text in enumerate(found, 1)
            ]
            parameter["workExample"] = _one_or_all(own)
            parameters.append(parameter)
            values += own
        if parameters:
            workflow["input"] = _one_or_all(parameters)
        return values

    def _formal(self, name: str, kind: str, description: str) -> Entity:
        return self._crate.add_formal_parameter(name, kind, identifier=f"#parameter/{name}", description=description)


def _one_or_all(entities: list[Entity]) -> Entity | list[Entity]:
    return entities[0] if len(entities) == 1 else entities


_FORMATS = {
    ".json": "application/json",
    ".csv": "text/csv",
    ".html": "text/html",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".toml": "application/toml",
}


def _format(name: str) -> str:
    return _FORMATS.get(Path(name).suffix, "application/octet-stream")
