"""The commands that carry runs elsewhere and back: export and import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis.rows.run_row import row_of
from branches.imported.tickets import export_ticket, import_ticket
from branches.imported.weights_file import import_weights
from branches.openlth.experiment import ImportedRun, import_experiment, is_experiment, log_of
from branches.openlth.files import export_openlth, import_openlth
from cli.commands.choosing import ChosenHparams
from cli.commands.jobs import TrainFlags, parse_job
from cli.commands.listing import listed
from cli.display.fitted_table import terminal_width
from cli.display.plain_table import percent, table
from cli.request.flags import parse, positional
from cli.request.request import with_context
from foundations.description.hparams import Hparams, hparam
from foundations.description.step import Step
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.files import explain_os_errors
from foundations.program import PROGRAM
from foundations.storage.run import Run
from foundations.storage.store import find_run, short_address
from training.context import Context


@dataclass(frozen=True, kw_only=True)
class ExportHparams(ChosenHparams):
    """Contents and format of the output."""

    step: str | None = hparam(None, step=True)
    """The step of the state; by default the last."""
    dense: bool = hparam(False)
    """Write only the state, with zeros where it is pruned: a plain state dict in safetensors."""
    openlth: bool = hparam(False)
    """Write OpenLTH's own files, model_ep<E>_it<I>.pth and mask.pth, into the folder FILE."""


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Write a run's weights, mask and lineage as one file (export ADDRESS FILE).

    Or write those of several runs into a folder, a file each (export FOLDER --where strategy=snip10).
    """

    export: ExportHparams = field(default_factory=ExportHparams)


@dataclass(frozen=True, kw_only=True)
class ImportHparams(Hparams):
    """Flags for the kind of FILE; without them, it is a ticket."""

    openlth: bool = hparam(False)
    """FILE is a directory of OpenLTH's: of a whole experiment, lottery_<hash> or train_<hash>, or of one run, .../main.
    Its hparams.log says how it was trained; flags of training override that, and are needed where there is none."""
    weights: bool = hparam(False)
    """FILE has weights of another program (.pth, .safetensors or .npz), such as torchvision's pretrained ones: a state
    dict, or a checkpoint with one. The flags of training say of which network, and how branches of it train."""


@dataclass(frozen=True, kw_only=True)
class ImportFlags(TrainFlags):
    """Make a ticket, a directory of OpenLTH's or a file of weights a parent like any other (import FILE)."""

    reading: ImportHparams = field(default_factory=ImportHparams)


def export(argv: Sequence[str], environment: Environment) -> int:
    """`export ADDRESS FILE`: write a ticket."""
    names, rest = positional(argv, ExportFlags)
    flags = parse(ExportFlags, rest, "export").export
    if len(names) != (2 if flags.where is None else 1):
        raise UsageError(
            f"export takes an address and a file, or --where and a folder: {PROGRAM} export ADDRESS ticket.safetensors"
        )
    if flags.dense and flags.openlth:
        raise UsageError("give one of them.", "dense", "openlth")
    root, path = flags.root_in(environment), Path(names[-1])
    if flags.where is None:
        files = {path: find_run(root, names[0])}
        if flags.dry_run:
            print(listed([row_of(run) for run in files.values()], [], terminal_width()))
    else:
        files = _files(flags, root, path)
    if flags.dry_run:
        print("\n".join(f"{run} would be written to {file}" for file, run in files.items()))
        return 0
    for file, run in files.items():
        _export(run, file, flags)
    return 0 if files else 1


def _files(flags: ExportHparams, root: Path, folder: Path) -> dict[Path, Run]:
    """Return the output files of the chosen complete runs. Print these runs, and name those that are not complete."""
    rows = flags.rows(root)
    complete = [row for row in rows if row.status == "complete"]
    if not complete:
        print(f"No complete runs under {root} with {flags.where}. Nothing was written.")
    else:
        print(listed(complete, [], terminal_width()))
    for row in rows:
        if row.status != "complete":
            print(f"Left out, {row.status}: {row.address}")
    if complete and not flags.dry_run:
        with explain_os_errors("make", folder):
            folder.mkdir(parents=True, exist_ok=True)
    ending = "" if flags.openlth else ".safetensors"
    return {folder / f"{row.digest}_{row.replicate}{ending}": row.run for row in complete}


def _export(run: Run, path: Path, flags: ExportHparams) -> None:
    step = None if flags.step is None else Step.parse(flags.step, run.record()["iterations_per_epoch"])
    if flags.openlth:
        export_openlth(run, step, path)
    else:
        export_ticket(run, step, path, dense=flags.dense)
    print(f"Wrote {run} to {path}")


def import_(argv: Sequence[str], environment: Environment) -> int:
    """`import FILE`: make a ticket a run, or a directory of OpenLTH's one or more runs."""
    names, rest = positional(argv, ImportFlags)
    path = Path(names[0]) if len(names) == 1 else None
    log = log_of(path) if path is not None and "--openlth" in rest else None
    flags = parse_job(ImportFlags, rest, "import", environment, preset=log.training if log else None)
    if path is None:
        raise UsageError(f"import takes one file: {PROGRAM} import ticket.safetensors")
    refused = {
        "executor": flags.executor.executor is not None,
        "dry_run": flags.job.dry_run,
        "display_output_location": flags.job.display_output_location,
    }
    for name in (name for name, is_given in refused.items() if is_given):
        raise UsageError("files are imported here and now; leave it out.", name)
    if flags.reading.openlth and flags.reading.weights:
        raise UsageError("give one of them.", "openlth", "weights")

    def work(context: Context) -> list[ImportedRun]:
        if log is not None and is_experiment(path):
            return import_experiment(path, flags.train_desc(), log, context)
        if flags.reading.openlth:
            return [ImportedRun(import_openlth(path, flags.train_desc(), context), context.replicate)]
        if flags.reading.weights:
            return [ImportedRun(import_weights(path, flags.train_desc(), context), context.replicate)]
        return [ImportedRun(import_ticket(path, context), context.replicate)]

    found = with_context(flags.job, flags.platform, environment, work, replicate=flags.job.replicate, named="import")
    if len(found) == 1:
        print(f"Imported {path} as {short_address(found[0].run)}\nfolder: {found[0].run.folder}")
    elif not flags.job.quiet:
        print(table([_cells(each) for each in found], ("replicate", "level", "sparsity", "accuracy", "address")))
        print(f"Imported {path}: {len(found)} runs under {found[0].run.root}")
    return 0


def _cells(imported: ImportedRun) -> dict[str, str]:
    manifest = imported.run.manifest()
    results = manifest.results if manifest else {}
    return {
        "replicate": str(imported.replicate),
        "level": "" if imported.level is None else str(imported.level),
        "sparsity": percent(results.get("sparsity", 0.0)),
        "accuracy": percent(results.get("test_accuracy")),
        "address": short_address(imported.run),
    }
