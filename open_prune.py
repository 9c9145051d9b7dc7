"""open_prune, a job system for research on sparse networks: the command, and the library.

As a command, `python open_prune.py` (installed: `open_prune`) lists its subcommands. As a library,

    from open_prune import Mask, prune

imports a name on first access, so that importing open_prune itself imports neither torch nor numpy. Plug-ins (methods,
datasets, networks, branches) import everything that they need for their declarations from here.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as signal, which imports enum first: ten milliseconds
import sys

if __name__ == "__main__":  # until `main` catches it, SIGINT ends the process without a traceback
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # The names of the library: `_modules` reads them here, as type checkers and editors do. `X as X` makes X public.
    from analysis.compare.comparison import Comparison as Comparison
    from analysis.compare.comparison import Line as Line
    from analysis.compare.points import Point as Point
    from analysis.figures.figure import DrawnFigure as DrawnFigure
    from analysis.figures.figure import FigureKind as FigureKind
    from analysis.figures.figure import FigureOptions as FigureOptions
    from analysis.figures.figure import GroupsOptions as GroupsOptions
    from analysis.figures.figure import LinesOptions as LinesOptions
    from analysis.figures.lines import comparison as comparison
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
    from analysis.rows.run import StoredRun as StoredRun
    from analysis.rows.run import open_run as open_run
    from analysis.rows.run_row import Row as Row
    from analysis.rows.runs import runs as runs
    from analysis.tables.format import TableFormat as TableFormat
    from analysis.tables.table import ResultsTable as ResultsTable
    from analysis.tables.table import results_table as results_table
    from branches.desc import BranchDesc as BranchDesc
    from branches.desc import BranchHparams as BranchHparams
    from branches.desc import main_of as main_of
    from branches.desc import mask_of as mask_of
    from branches.lottery.lottery import Lottery as Lottery
    from branches.named.branch import Branch as Branch
    from branches.named.branch import Level as Level
    from branches.named.branch import SeedFlags as SeedFlags
    from branches.named.branch import branch_of as branch_of
    from branches.named.branch import last_state as last_state
    from branches.named.oneshot import OneshotFlags as OneshotFlags
    from branches.named.oneshot import oneshot as oneshot
    from branches.named.presets import preset as preset
    from datasets.augmentations.augmentation import Augmentation as Augmentation
    from datasets.augmentations.augmentation import MemoryBatches as MemoryBatches
    from datasets.augmentations.augmentation import StreamedBatches as StreamedBatches
    from datasets.augmentations.none import NONE as NONE
    from datasets.augmentations.pad4_crop_flip import PAD4_CROP_FLIP as PAD4_CROP_FLIP
    from datasets.augmentations.resized_crop_flip import RESIZED_CROP_FLIP as RESIZED_CROP_FLIP
    from datasets.formats.source_files import Arrays as Arrays
    from datasets.formats.source_files import Download as Download
    from datasets.formats.source_files import Index as Index
    from datasets.formats.source_files import SourceFiles as SourceFiles
    from datasets.formats.source_files import Split as Split
    from datasets.hparams import DatasetHparams as DatasetHparams
    from datasets.loading.batches import Loader as Loader
    from datasets.loading.batches import LoaderConfig as LoaderConfig
    from datasets.loading.loader import open_loader as open_loader
    from datasets.prepared import ensure_prepared as ensure_prepared
    from datasets.spec import DatasetSpec as DatasetSpec
    from datasets.tasks.classification import CLASSIFICATION as CLASSIFICATION
    from datasets.tasks.classification import Classification as Classification
    from datasets.tasks.language_modelling import LANGUAGE_MODELLING as LANGUAGE_MODELLING
    from datasets.tasks.language_modelling import LanguageModelling as LanguageModelling
    from datasets.tasks.multi_label import MULTI_LABEL as MULTI_LABEL
    from datasets.tasks.multi_label import MultiLabel as MultiLabel
    from datasets.tasks.regression import REGRESSION as REGRESSION
    from datasets.tasks.regression import Regression as Regression
    from datasets.tasks.sequence_classification import SEQUENCE_CLASSIFICATION as SEQUENCE_CLASSIFICATION
    from datasets.tasks.task import DatasetTask as DatasetTask
    from datasets.tasks.task import TaskFacts as TaskFacts
    from foundations.description.desc import Desc as Desc
    from foundations.description.desc import MaskOf as MaskOf
    from foundations.description.desc import RunKind as RunKind
    from foundations.description.desc import RunRef as RunRef
    from foundations.description.desc import StateOf as StateOf
    from foundations.description.hparams import ALWAYS_WRITTEN as ALWAYS_WRITTEN
    from foundations.description.hparams import Hparams as Hparams
    from foundations.description.hparams import hparam as hparam
    from foundations.description.step import Step as Step
    from foundations.errors import DamagedError as DamagedError
    from foundations.errors import EnvironmentFailure as EnvironmentFailure
    from foundations.errors import OpenPruneError as OpenPruneError
    from foundations.errors import UsageError as UsageError
    from foundations.inputs import Inputs as Inputs
    from foundations.metrics import Metric as Metric
    from foundations.plugins.plugins import load_plugins as load_plugins
    from foundations.random_streams import generator as generator
    from models.build import build_model as build_model
    from models.family import Family as Family
    from models.family import NetworkSpec as NetworkSpec
    from models.hparams import ModelHparams as ModelHparams
    from models.initializers import MaskedInit as MaskedInit
    from models.initializers import WeightInit as WeightInit
    from models.networks.fading import Fading as Fading
    from platforms.executors.executor import CommandJob as CommandJob
    from platforms.executors.executor import Ended as Ended
    from platforms.executors.executor import Executor as Executor
    from platforms.executors.executor import Program as Program
    from platforms.executors.registry import ExecutorHparams as ExecutorHparams
    from platforms.executors.registry import ExecutorKind as ExecutorKind
    from platforms.executors.scheduler import JobState as JobState
    from platforms.executors.scheduler import Scheduler as Scheduler
    from platforms.executors.task import Task as Task
    from platforms.memory_format import memory_format as memory_format
    from platforms.platform import Platform as Platform
    from platforms.platform import PlatformHparams as PlatformHparams
    from platforms.platform import PlatformKind as PlatformKind
    from pruning.allocations.allocation import Allocation as Allocation
    from pruning.allocations.allocation import apportion as apportion
    from pruning.allocations.allocation import proportional as proportional
    from pruning.compute_mask import TiesWarning as TiesWarning
    from pruning.hparams import ExamplesHparams as ExamplesHparams
    from pruning.hparams import PruningHparams as PruningHparams
    from pruning.masks.mask import Mask as Mask
    from pruning.masks.optimizer_state import OptimizerStateWarning as OptimizerStateWarning
    from pruning.masks.reinitialization import reinitialize_ as reinitialize_
    from pruning.method import EXAMPLES_PER_CLASS as EXAMPLES_PER_CLASS
    from pruning.method import Method as Method
    from pruning.paths.path_kernel import path_kernel_trace as path_kernel_trace
    from pruning.phew_masks import phew_masks as phew_masks
    from pruning.prune import CollapseWarning as CollapseWarning
    from pruning.prune import prune as prune
    from pruning.report import sparsity_report as sparsity_report
    from pruning.schedules.iterations import Schedule as Schedule
    from pruning.scoring.outputs import OutputsWarning as OutputsWarning
    from pruning.scoring.scoring import Scores as Scores
    from pruning.scoring.scoring import Scoring as Scoring
    from pruning.weights.left_out import UnprunedWarning as UnprunedWarning
    from pruning.wrapper.wrapper import PruningWrapper as PruningWrapper
    from training.desc import TrainDesc as TrainDesc
    from training.gradinit import GradInitStep as GradInitStep
    from training.gradinit import gradinit as gradinit
    from training.hparams import TechniquesHparams as TechniquesHparams
    from training.hparams import TrainingHparams as TrainingHparams
    from training.loggers.logger import Log as Log
    from training.loggers.logger import LoggedRun as LoggedRun
    from training.loggers.logger import Logger as Logger
    from training.other_loops.accelerate import accelerate_sparse as accelerate_sparse
    from training.other_loops.lightning import lightning_callback as lightning_callback
    from training.other_loops.transformers import transformers_callback as transformers_callback
    from training.recipes import Recipe as Recipe
    from training.schedules.schedule import Course as Course
    from training.schedules.schedule import LrSchedule as LrSchedule
    from training.sparse import SparseTraining as SparseTraining
    from training.sparse import sparse as sparse
    from training.technique import Hooks as Hooks
    from training.technique import ParameterGroup as ParameterGroup
    from training.technique import Technique as Technique
    from training.technique import TechniqueHparams as TechniqueHparams
    from training.technique import Training as Training
    from training.techniques.fading import FadingHooks as FadingHooks
    from training.techniques.fading import FadingHparams as FadingHparams

    __version__: str


_names: dict[str, str] = {}


def _modules() -> dict[str, str]:
    """Return the module of each name of the library, from the imports under TYPE_CHECKING."""
    if not _names:
        import ast

        with open(__file__, encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes as long to import as all else here
            statements = ast.parse(file.read()).body
        block = next(
            each for each in statements if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"
        )
        for node in block.body:
            if isinstance(node, ast.ImportFrom):
                _names.update((alias.name, str(node.module)) for alias in node.names)
    return _names


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", "main", *_modules()]
    if name == "__version__":
        from foundations.program import version

        return version()
    if name.startswith("__") or name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_modules()[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


def main() -> int:
    """Run the command in the arguments of this process; return its exit code."""
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
