"""The commands that carry runs elsewhere and back: export and import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from branches.openlth_files import export_openlth, import_openlth
from branches.tickets import export_ticket, import_ticket
from branches.weights_file import import_weights
from cli.flags import parse, positional
from cli.job_flags import RootHparams
from cli.jobs import TrainFlags, parse_job, with_context
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.hparams import Hparams, hparam
from foundations.program import PROGRAM
from foundations.run import Run
from foundations.step import Step
from foundations.store import find_run, short_address
from training.context import Context


@dataclass(frozen=True, kw_only=True)
class ExportHparams(RootHparams):
    """What is written, and how."""

    step: str | None = hparam(None, step=True)
    """The step of the state; by default the last."""
    dense: bool = hparam(False)
    """Write only the state, with zeros where it is pruned: a plain state dict in safetensors."""
    openlth: bool = hparam(False)
    """Write OpenLTH's own files, model_ep<E>_it<I>.pth and mask.pth, into the folder FILE."""


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Write a run's weights, mask and lineage as one file (export ADDRESS FILE)."""

    export: ExportHparams = field(default_factory=ExportHparams)


@dataclass(frozen=True, kw_only=True)
class ImportHparams(Hparams):
    """What is read."""

    openlth: bool = hparam(False)
    """FILE is a directory of OpenLTH's; the flags of training say how branches of it train."""
    weights: bool = hparam(False)
    """FILE is a state dict (.pth or .safetensors), such as torchvision's pretrained weights; the flags of training say
    of which network, and how branches of it train."""


@dataclass(frozen=True, kw_only=True)
class ImportFlags(TrainFlags):
    """Make a ticket, a directory of OpenLTH's or a file of weights a parent like any other (import FILE)."""

    reading: ImportHparams = field(default_factory=ImportHparams)


def export(argv: Sequence[str], environment: Environment) -> int:
    """`export ADDRESS FILE`: write a ticket."""
    names, rest = positional(argv)
    flags = parse(ExportFlags, rest, "export").export
    if len(names) != 2:
        raise UsageError(f"export takes an address and a file: {PROGRAM} export ADDRESS ticket.safetensors")
    if flags.dense and flags.openlth:
        raise UsageError("give one of them.", "dense", "openlth")
    run, path = find_run(flags.root_in(environment), names[0]), Path(names[1])
    step = None if flags.step is None else Step.parse(flags.step, run.record()["iterations_per_epoch"])
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
        raise UsageError(f"import takes one file: {PROGRAM} import ticket.safetensors")
    if flags.reading.openlth and flags.reading.weights:
        raise UsageError("give one of them.", "openlth", "weights")
    path = Path(names[0])

    def read(context: Context) -> Run:
        if flags.reading.openlth:
            return import_openlth(path, flags.train_desc(), context)
        if flags.reading.weights:
            return import_weights(path, flags.train_desc(), context)
        return import_ticket(path, context)

    run = with_context(flags.job, flags.platform, environment, read)
    print(f"Imported {path} as {short_address(run)}\nfolder: {run.folder}")
    return 0
