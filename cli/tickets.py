"""The commands that carry runs elsewhere and back: export and import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from branches.lineage import job_of, load_desc
from branches.tickets import export_openlth, export_ticket, import_openlth, import_ticket
from cli.addresses import find_run, short_address
from cli.flags import parse, positional
from cli.job_flags import make_context, root_of
from cli.jobs import TrainFlags, make_reporter, parse_job
from cli.main import Environment
from foundations.errors import UsageError
from foundations.hparams import Hparams, hparam
from foundations.interrupts import Interrupts


@dataclass(frozen=True, kw_only=True)
class ExportHparams(Hparams):
    """What is written, and how."""

    step: str | None = hparam(None, step=True)
    """The step of the state; by default the last."""
    dense: bool = hparam(False)
    """Write only the state, with zeros where it is pruned: a plain state dict in safetensors."""
    openlth: bool = hparam(False)
    """Write OpenLTH's own files, model_ep<E>_it<I>.pth and mask.pth, into the folder FILE."""
    root: str | None = hparam(None)
    """Where runs lie; by default OPEN_PRUNE_ROOT, or ~/open_prune_data."""


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Write a run's weights, mask and lineage as one file (export ADDRESS FILE)."""

    export: ExportHparams = field(default_factory=ExportHparams)


@dataclass(frozen=True, kw_only=True)
class ImportHparams(Hparams):
    """What is read."""

    openlth: bool = hparam(False)
    """FILE is a directory of OpenLTH's; how its branches train is what the flags of training say."""


@dataclass(frozen=True, kw_only=True)
class ImportFlags(TrainFlags):
    """Make a ticket, or a directory of OpenLTH's, a parent like any other (import FILE)."""

    reading: ImportHparams = field(default_factory=ImportHparams)


def export(argv: Sequence[str], environment: Environment) -> int:
    """`export ADDRESS FILE`: write a ticket."""
    names, rest = positional(argv)
    flags = parse(ExportFlags, rest, "export", ExportFlags()).export
    if len(names) != 2:
        raise UsageError("export takes an address and a file: python open_prune.py export ADDRESS ticket.safetensors")
    if flags.dense and flags.openlth:
        raise UsageError("--dense, --openlth: give one of them.")
    run, path = find_run(root_of(flags, environment), names[0]), Path(names[1])
    training = job_of(load_desc(run)).training
    step = None if flags.step is None else training.step(flags.step)
    if flags.openlth:
        export_openlth(run, step, path)
    else:
        export_ticket(run, step, path, dense=flags.dense)
    print(f"Wrote {run} to {path}")
    return 0


def import_(argv: Sequence[str], environment: Environment) -> int:
    """`import FILE`: make a ticket a run."""
    names, rest = positional(argv)
    flags = parse_job(ImportFlags, rest, "import", environment)
    if len(names) != 1:
        raise UsageError("import takes one file: python open_prune.py import ticket.safetensors")
    context = make_context(flags.job, flags.platform, environment, make_reporter(flags.job.quiet), Interrupts())
    path = Path(names[0])
    run = import_openlth(path, flags.train_desc(), context) if flags.reading.openlth else import_ticket(path, context)
    print(f"Imported {path} as {short_address(run)}\nfolder: {run.folder}")
    return 0
