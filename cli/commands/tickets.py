"""The commands that carry runs elsewhere and back: export and import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.rows.run_row import row_of
from analysis.sharing.shared_file import is_shared
from branches.imported.tickets import export_ticket, import_ticket
from branches.imported.weights_file import import_weights
from branches.openlth.experiment import ImportedRun, import_experiment, is_experiment, log_of
from branches.openlth.files import export_openlth, import_openlth
from cli.commands.choosing import ChosenHparams
from cli.commands.jobs import TRAIN, parse_job, train_desc
from cli.commands.listing import listed
from cli.commands.sharing import import_shared
from cli.display.fitted_table import terminal_width
from cli.display.plain_table import table
from cli.display.summaries import result_cells, result_names
from cli.request.context import context_of
from cli.request.flags import Flags, command, positional
from foundations.description.hparams import Hparams, hparam
from foundations.description.step import Step
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.files import explain_os_errors
from foundations.program import PROGRAM
from foundations.storage.root import check_output
from foundations.storage.run import Run
from foundations.storage.store import find_run, of_upstream, short_address


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
class ImportHparams(Hparams):
    """Flags for the kind of FILE; without them, it is a ticket or a file of `share`."""

    openlth: bool = hparam(False)
    """FILE is a directory of OpenLTH's: of a whole experiment, lottery_<hash> or train_<hash>, or of one run, .../main.
    Its hparams.log says how it was trained; flags of training override that, and are needed where there is none."""
    weights: bool = hparam(False)
    """FILE has weights of another program (.pth, .safetensors or .npz), such as torchvision's pretrained ones: a state
    dict, or a checkpoint with one. The flags of training say of which network, and how branches of it train."""
    require_signed: bool = hparam(False)
    """Refuse a file of `share` unless a trusted key has signed it (`key trust` adds one)."""


IMPORT = Flags(
    "import",
    "Import a ticket, a directory of OpenLTH's or a file of weights as a parent like any other, or shared runs (import "
    "FILE).",
    **TRAIN.groups,
    reading=ImportHparams,
)


@command(export=ExportHparams)
def export(names: list[str], environment: Environment, export: ExportHparams) -> int:
    """Write a run's weights, mask and lineage as one file (export ADDRESS FILE).

    Or write those of several runs into a folder, a file each (export FOLDER --where strategy=snip10).
    """
    if len(names) != (2 if export.where is None else 1):
        raise UsageError(
            f"export takes an address and a file, or --where and a folder: {PROGRAM} export ADDRESS ticket.safetensors"
        )
    if export.dense and export.openlth:
        raise UsageError("give one of them.", "dense", "openlth")
    root, path = export.root_in(environment), Path(names[-1])
    check_output(root, path)
    if export.where is None:
        files = {path: find_run(root, names[0])}
        if export.dry_run:
            print(listed([row_of(run) for run in files.values()], [], terminal_width()))
    else:
        files = _files(export, root, path)
    if export.dry_run:
        print("\n".join(f"{run} would be written to {file}" for file, run in files.items()))
        return 0
    for file, run in files.items():
        _export(run, file, export)
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
    print(f"Wrote {run}{of_upstream(run.upstream)} to {path}")


def import_(argv: Sequence[str], environment: Environment) -> int:
    """`import FILE`: make a ticket a run, or a directory of OpenLTH's one or more runs."""
    names, rest = positional(argv, IMPORT)
    path = Path(names[0]) if len(names) == 1 else None
    if path is not None and is_shared(path):
        return import_shared(path, environment, rest)
    log = log_of(path) if path is not None and "--openlth" in rest else None
    flags = parse_job(IMPORT, rest, environment, preset=log.training if log else None)
    if path is None:
        raise UsageError(f"import takes one file: {PROGRAM} import ticket.safetensors")
    refused = {
        "executor": flags.executor.executor is not None,
        "dry_run": flags.job.dry_run,
        "display_output_location": flags.job.display_output_location,
    }
    for name in (name for name, is_given in refused.items() if is_given):
        raise UsageError("files are imported here and now; leave it out.", name)
    if flags.reading.require_signed:
        raise UsageError(f"{path} is not a shared file, and only these are signed.", "require_signed")
    if flags.reading.openlth and flags.reading.weights:
        raise UsageError("give one of them.", "openlth", "weights")

    desc = train_desc(flags)
    if flags.left_out:
        print(flags.left_out)
    with context_of(flags.job, flags.platform, environment, replicate=flags.job.replicate, named="import") as context:
        if log is not None and is_experiment(path):
            found = import_experiment(path, desc, log, context)
        else:
            if flags.reading.openlth:
                run = import_openlth(path, desc, context)
            elif flags.reading.weights:
                run = import_weights(path, desc, context)
            else:
                run = import_ticket(path, context)
            found = [ImportedRun(run, context.replicate)]
    if len(found) == 1:
        print(f"Imported {path} as {short_address(found[0].run)}\nfolder: {found[0].run.folder}")
    elif not flags.job.quiet:
        rows = [
            {
                "replicate": str(each.replicate),
                "level": "" if each.level is None else str(each.level),
                **result_cells(each.run, each.run.manifest()),
            }
            for each in found
        ]
        print(table(rows, ("replicate", "level", *result_names(rows), "address")))
        print(f"Imported {path}: {len(found)} runs under {found[0].run.root}")
    return 0
