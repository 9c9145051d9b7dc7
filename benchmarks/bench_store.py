"""Ten thousand complete runs: listed, some of them, all as a data frame, a table and curves, and one opened.

Each operation is measured in an interpreter of its own, from its start to its end, including imports such as pandas and
matplotlib. The index of rows (`analysis.rows.row_index`) exists unless the row states otherwise.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from analysis.rows.row_index import FOLDER as CACHE
from analysis.rows.row_index import UNSETTLED_SECONDS
from benchmarks.made_runs import make_complete
from benchmarks.processes import process
from benchmarks.timing import Median, Row, seconds
from branches.named.oneshot import OneshotFlags, oneshot
from foundations.description.desc import Desc, RunRef
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.recipes import recipe

TRAININGS = 50
STRATEGIES = ("magnitude", "snip10", "grasp10", "synflow", "random", "force10", "fisher10", "taylor10", "graspabs10")
LEVELS = 22
COUNT = TRAININGS * (1 + len(STRATEGIES) * LEVELS)
READ = """
import sys
root = sys.argv[1]
from analysis.rows.run import open_run
from analysis.rows.runs import runs
{work}
assert "torch" not in sys.modules, "reading runs must not import torch"
"""
COMMAND = """
import contextlib, io, os, sys
from cli.main import main
root = sys.argv[1]
names = sorted(name for name in os.listdir(root) if name.startswith("train_"))[:2]
out = io.StringIO()
with contextlib.redirect_stdout(out):
    assert main([{arguments}, f"--root={{root}}"]) == 0
assert out.getvalue().count({words!r}) >= {least}, out.getvalue()[:1000]
assert not {{"torch", "pandas", "numpy"}} & set(sys.modules), "listing and comparing must not import these"
"""
FILTER = "--where=strategy=snip10,status=complete"
SOME = TRAININGS * LEVELS
CURVES = f"""
from analysis.figures.plot import plot
from tempfile import TemporaryDirectory
drawn = plot("curves", root, over="lr")
assert sum(point["n"] for point in drawn.points) == {COUNT}
with TemporaryDirectory() as folder:
    drawn.write(folder + "/curves.pdf")
"""
ALL = f"assert len(runs(root=root)) == {COUNT}"
TABLE = COMMAND.format(arguments='"table", "--over=lr"', words="lr", least=0)
ONE = "from pathlib import Path; assert open_run(next(Path(root).glob('train_*')).name, root).results"
COMPARE = COMMAND.format(arguments='"compare", *names', words="lr", least=1)
ASKED = ("branch", "train", "oneshot", "--default_hparams=cifar_resnet_20", "--lr=0.105", "--strategy=snip10")
WHY = COMMAND.format(arguments=f'"why", *{ASKED}', words="The nearest is", least=1)
LS = COMMAND.format(arguments='"ls"', words="cifar_resnet_20", least=COUNT)
SOME_LISTED = COMMAND.format(arguments=f'"ls", "{FILTER}"', words="cifar_resnet_20", least=SOME)


@dataclass(frozen=True)
class Work:
    """An operation in a new interpreter."""

    what: str
    code: str
    aim: str
    is_cold: bool = False
    """Whether to remove the index of rows first."""


WORKS = (
    Work(f"ls of {COUNT:,} runs", LS, "at most 1.5"),
    Work(f"ls of {COUNT:,} runs, without an index", LS, "at most 3", is_cold=True),
    Work(f"ls of {SOME} of {COUNT:,} runs", SOME_LISTED, "at most 0.5"),
    Work(f"ls of {SOME} of {COUNT:,} runs, without an index", SOME_LISTED, "at most 2.5", is_cold=True),
    Work(f"two of {COUNT:,} runs compared", COMPARE, "at most 0.3"),
    Work(f"why a run is computed, beside {COUNT:,} runs", WHY, "at most 0.3"),
    Work(f"{COUNT:,} runs as a data frame", READ.format(work=ALL), "at most 2"),
    Work(f"one of {COUNT:,} runs opened by its address", READ.format(work=ONE), "at most 1"),
    Work(f"{COUNT:,} runs as a table of means", TABLE, "at most 3"),
    Work(f"{COUNT:,} runs drawn as curves", READ.format(work=CURVES), "at most 6"),
)


def rows(repeats: int = 5) -> list[Row]:
    """Measure the operations in turn."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_complete(_grid(), root)
        time.sleep(2 * UNSETTLED_SECONDS)  # so that the index accepts the runs
        took: dict[Work, list[float]] = {work: [] for work in WORKS}
        for _ in range(repeats):
            for work in WORKS:
                if work.is_cold:
                    shutil.rmtree(root / CACHE, ignore_errors=True)
                else:
                    process([sys.executable, "-c", LS, folder], root)()
                took[work].append(seconds(process([sys.executable, "-c", work.code, folder], root)))
    return [Row(work.what, Median.of(took[work]), work.aim, "in a new interpreter", "s") for work in WORKS]


def _grid() -> list[Desc]:
    """Return trainings, with branches of each for every strategy and level."""
    descs: list[Desc] = []
    for number in range(TRAININGS):
        main = TrainDesc.of({**recipe("cifar_resnet_20"), "lr": (number + 1) / 100})
        descs.append(main)
        for strategy, level in itertools.product(STRATEGIES, range(1, LEVELS + 1)):
            values = {"strategy": strategy, "density": level / (LEVELS + 1)}
            descs.append(oneshot(RunRef(main), PruningHparams.of(values), OneshotFlags.of(values)))
    return descs
