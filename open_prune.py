"""open_prune, a job system for research on sparse networks: the command, and the library.

As a command, `python open_prune.py` (installed: `open_prune`) lists what it can do. As a library,

    from open_prune import Mask, prune

imports a name when it is asked for, so that importing open_prune itself imports neither torch nor numpy. Files of
your own (methods, datasets, networks, branches) import from here all that they declare themselves with.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as signal, which imports enum first: ten milliseconds
import sys

if __name__ == "__main__":  # until `main` catches it, SIGINT ends the process without a traceback
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # What type checkers and editors read of the names in _MODULES; `X as X` says that X is meant for others.
    from analysis.figures.figure import DrawnFigure as DrawnFigure
    from analysis.figures.figure import FigureKind as FigureKind
    from analysis.figures.figure import FigureOptions as FigureOptions
    from analysis.figures.plot import plot as plot
    from analysis.measures.data import DataOptions as DataOptions
    from analysis.measures.data import Examples as Examples
    from analysis.measures.inputs import MeasuredRun as MeasuredRun
    from analysis.measures.inputs import Measuring as Measuring
    from analysis.measures.measure import Measure as Measure
    from analysis.measures.measure import Measured as Measured
    from analysis.measures.measure import StepOptions as StepOptions
    from analysis.measures.results import MeasuredResult as MeasuredResult
    from analysis.measures.results import measure as measure
    from analysis.run import open_run as open_run
    from analysis.runs import runs as runs
    from analysis.tables.format import TableFormat as TableFormat
    from analysis.tables.table import ResultsTable as ResultsTable
    from analysis.tables.table import results_table as results_table
    from branches.desc import BranchDesc as BranchDesc
    from branches.desc import BranchHparams as BranchHparams
    from branches.desc import main_of as main_of
    from branches.desc import mask_of as mask_of
    from branches.lottery import LevelBranch as LevelBranch
    from branches.lottery import Lottery as Lottery
    from branches.named_branch import Branch as Branch
    from branches.named_branch import SeedFlags as SeedFlags
    from branches.named_branch import branch_of as branch_of
    from branches.named_branch import last_state as last_state
    from branches.oneshot import OneshotFlags as OneshotFlags
    from branches.oneshot import oneshot as oneshot
    from datasets.augmentations.augmentation import Augmentation as Augmentation
    from datasets.augmentations.augmentation import MemoryBatches as MemoryBatches
    from datasets.augmentations.augmentation import StreamedBatches as StreamedBatches
    from datasets.augmentations.none import NONE as NONE
    from datasets.augmentations.pad4_crop_flip import PAD4_CROP_FLIP as PAD4_CROP_FLIP
    from datasets.augmentations.resized_crop_flip import RESIZED_CROP_FLIP as RESIZED_CROP_FLIP
    from datasets.batches import Loader as Loader
    from datasets.batches import LoaderConfig as LoaderConfig
    from datasets.hparams import DatasetHparams as DatasetHparams
    from datasets.loader import open_loader as open_loader
    from datasets.prepared import ensure_prepared as ensure_prepared
    from datasets.source_files import Download as Download
    from datasets.source_files import Index as Index
    from datasets.source_files import SourceFiles as SourceFiles
    from datasets.source_files import Split as Split
    from datasets.spec import DatasetSpec as DatasetSpec
    from foundations.desc import Desc as Desc
    from foundations.desc import MaskOf as MaskOf
    from foundations.desc import RunKind as RunKind
    from foundations.desc import RunRef as RunRef
    from foundations.desc import StateOf as StateOf
    from foundations.errors import DamagedError as DamagedError
    from foundations.errors import EnvironmentFailure as EnvironmentFailure
    from foundations.errors import OpenPruneError as OpenPruneError
    from foundations.errors import UsageError as UsageError
    from foundations.hparams import ALWAYS_WRITTEN as ALWAYS_WRITTEN
    from foundations.hparams import Hparams as Hparams
    from foundations.hparams import hparam as hparam
    from foundations.plugins import load_plugins as load_plugins
    from foundations.random_streams import generator as generator
    from foundations.step import Step as Step
    from models.build import build_model as build_model
    from models.family import Family as Family
    from models.family import NetworkSpec as NetworkSpec
    from models.hparams import ModelHparams as ModelHparams
    from models.initializers import MaskedInit as MaskedInit
    from models.initializers import WeightInit as WeightInit
    from models.networks.fading import Fading as Fading
    from platforms.base import Platform as Platform
    from platforms.base import PlatformHparams as PlatformHparams
    from platforms.base import PlatformKind as PlatformKind
    from platforms.memory_format import memory_format as memory_format
    from pruning.allocation import Allocation as Allocation
    from pruning.allocation import apportion as apportion
    from pruning.allocation import proportional as proportional
    from pruning.compute_mask import TiesWarning as TiesWarning
    from pruning.hparams import ExamplesHparams as ExamplesHparams
    from pruning.hparams import PruningHparams as PruningHparams
    from pruning.iterations import Schedule as Schedule
    from pruning.left_out import UnprunedWarning as UnprunedWarning
    from pruning.mask import Mask as Mask
    from pruning.method import EXAMPLES_PER_CLASS as EXAMPLES_PER_CLASS
    from pruning.method import Method as Method
    from pruning.optimizer_state import OptimizerStateWarning as OptimizerStateWarning
    from pruning.outputs import OutputsWarning as OutputsWarning
    from pruning.path_kernel import path_kernel_trace as path_kernel_trace
    from pruning.phew_masks import phew_masks as phew_masks
    from pruning.prune import CollapseWarning as CollapseWarning
    from pruning.prune import prune as prune
    from pruning.reinitialization import reinitialize_ as reinitialize_
    from pruning.report import sparsity_report as sparsity_report
    from pruning.scoring import Scores as Scores
    from pruning.scoring import Scoring as Scoring
    from pruning.wrapper import PruningWrapper as PruningWrapper
    from training.desc import TrainDesc as TrainDesc
    from training.gradinit import GradInitStep as GradInitStep
    from training.gradinit import gradinit as gradinit
    from training.hparams import TechniquesHparams as TechniquesHparams
    from training.hparams import TrainingHparams as TrainingHparams
    from training.loggers.logger import Log as Log
    from training.loggers.logger import LoggedRun as LoggedRun
    from training.loggers.logger import Logger as Logger
    from training.recipes import Recipe as Recipe
    from training.technique import Hooks as Hooks
    from training.technique import Technique as Technique
    from training.technique import TechniqueHparams as TechniqueHparams
    from training.technique import Training as Training
    from training.techniques.fading import FadingHooks as FadingHooks
    from training.techniques.fading import FadingHparams as FadingHparams

    __version__: str

_MODULES = {
    # Pruning any network
    "Mask": "pruning.mask",
    "PruningWrapper": "pruning.wrapper",
    "prune": "pruning.prune",
    "CollapseWarning": "pruning.prune",
    "TiesWarning": "pruning.compute_mask",
    "UnprunedWarning": "pruning.left_out",
    "OutputsWarning": "pruning.outputs",
    "OptimizerStateWarning": "pruning.optimizer_state",
    "reinitialize_": "pruning.reinitialization",
    "sparsity_report": "pruning.report",
    "phew_masks": "pruning.phew_masks",
    "path_kernel_trace": "pruning.path_kernel",
    # Preparing any network
    "gradinit": "training.gradinit",
    "GradInitStep": "training.gradinit",
    # Reading runs
    "open_run": "analysis.run",
    "results_table": "analysis.tables.table",
    "ResultsTable": "analysis.tables.table",
    "TableFormat": "analysis.tables.format",
    "runs": "analysis.runs",
    "measure": "analysis.measures.results",
    "MeasuredResult": "analysis.measures.results",
    # Figures of runs, and declaring a kind of figure
    "plot": "analysis.figures.plot",
    "DrawnFigure": "analysis.figures.figure",
    "FigureKind": "analysis.figures.figure",
    "FigureOptions": "analysis.figures.figure",
    # Declaring a method, an allocation, a schedule
    "Method": "pruning.method",
    "EXAMPLES_PER_CLASS": "pruning.method",
    "PruningHparams": "pruning.hparams",
    "ExamplesHparams": "pruning.hparams",
    "Scores": "pruning.scoring",
    "Scoring": "pruning.scoring",
    "Allocation": "pruning.allocation",
    "apportion": "pruning.allocation",
    "proportional": "pruning.allocation",
    "Schedule": "pruning.iterations",
    # Networks and batches by name, for a loop of one's own
    "build_model": "models.build",
    "ensure_prepared": "datasets.prepared",
    "open_loader": "datasets.loader",
    "Loader": "datasets.batches",
    "LoaderConfig": "datasets.batches",
    # A family of networks, a recipe
    "Family": "models.family",
    "NetworkSpec": "models.family",
    "ModelHparams": "models.hparams",
    "Recipe": "training.recipes",
    # An initializer
    "WeightInit": "models.initializers",
    "MaskedInit": "models.initializers",
    # A dataset, an augmentation
    "DatasetSpec": "datasets.spec",
    "DatasetHparams": "datasets.hparams",
    "Download": "datasets.source_files",
    "Index": "datasets.source_files",
    "SourceFiles": "datasets.source_files",
    "Split": "datasets.source_files",
    "Augmentation": "datasets.augmentations.augmentation",
    "MemoryBatches": "datasets.augmentations.augmentation",
    "StreamedBatches": "datasets.augmentations.augmentation",
    "NONE": "datasets.augmentations.none",
    "PAD4_CROP_FLIP": "datasets.augmentations.pad4_crop_flip",
    "RESIZED_CROP_FLIP": "datasets.augmentations.resized_crop_flip",
    # A technique
    "Technique": "training.technique",
    "TechniqueHparams": "training.technique",
    "TechniquesHparams": "training.hparams",
    "Hooks": "training.technique",
    "Training": "training.technique",
    "Fading": "models.networks.fading",
    "FadingHooks": "training.techniques.fading",
    "FadingHparams": "training.techniques.fading",
    "Logger": "training.loggers.logger",
    "Log": "training.loggers.logger",
    "LoggedRun": "training.loggers.logger",
    # A branch, a kind of run
    "Branch": "branches.named_branch",
    "SeedFlags": "branches.named_branch",
    "branch_of": "branches.named_branch",
    "oneshot": "branches.oneshot",
    "OneshotFlags": "branches.oneshot",
    "last_state": "branches.named_branch",
    "BranchDesc": "branches.desc",
    "BranchHparams": "branches.desc",
    "main_of": "branches.desc",
    "mask_of": "branches.desc",
    "LevelBranch": "branches.lottery",
    "Lottery": "branches.lottery",
    "Desc": "foundations.desc",
    "MaskOf": "foundations.desc",
    "RunKind": "foundations.desc",
    "RunRef": "foundations.desc",
    "StateOf": "foundations.desc",
    "TrainDesc": "training.desc",
    "TrainingHparams": "training.hparams",
    # A measure
    "Measure": "analysis.measures.measure",
    "Measured": "analysis.measures.measure",
    "StepOptions": "analysis.measures.measure",
    "MeasuredRun": "analysis.measures.inputs",
    "Measuring": "analysis.measures.inputs",
    "DataOptions": "analysis.measures.data",
    "Examples": "analysis.measures.data",
    # A platform
    "Platform": "platforms.base",
    "PlatformHparams": "platforms.base",
    "PlatformKind": "platforms.base",
    "memory_format": "platforms.memory_format",
    # Using such files from Python
    "load_plugins": "foundations.plugins",
    # What all of these use
    "ALWAYS_WRITTEN": "foundations.hparams",
    "Hparams": "foundations.hparams",
    "hparam": "foundations.hparams",
    "Step": "foundations.step",
    "generator": "foundations.random_streams",
    "DamagedError": "foundations.errors",
    "EnvironmentFailure": "foundations.errors",
    "OpenPruneError": "foundations.errors",
    "UsageError": "foundations.errors",
}
"""The module of each name of the library."""

__all__ = ["__version__", "main", *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from foundations.program import version

        return version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from foundations.registry import load

    return load(f"{_MODULES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def main() -> int:
    """Run the command of the arguments of this process; return its exit code."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from foundations.errors import Interrupted
    from foundations.interrupts import BEGINS_AGAIN, Interrupts, end

    try:
        with Interrupts(BEGINS_AGAIN).caught():  # while modules are imported; commands catch signals themselves
            from cli.main import main as run

            code = run(sys.argv[1:])
    except Interrupted as stop:
        sys.stderr.write(f"open_prune: {stop}\n")
        code = stop.exit_code
    return end(code)


if __name__ == "__main__":
    sys.exit(main())
