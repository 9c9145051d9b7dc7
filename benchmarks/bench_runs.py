"""What it costs to read five thousand runs: as a data frame, as a table of results, as curves, and to open one.

Each work is measured in an interpreter of its own, from its start to its end: imports count, those of pandas and
matplotlib too.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.made_runs import make_complete
from benchmarks.timing import Row, in_turn
from branches.oneshot import OneshotFlags, oneshot
from foundations.desc import Desc, RunRef
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.recipes import recipe

TRAININGS = 50
STRATEGIES = ("magnitude", "snip10", "grasp10", "synflow", "random", "force10", "fisher10", "taylor10", "graspabs10")
LEVELS = 11
COUNT = TRAININGS * (1 + len(STRATEGIES) * LEVELS)
WORKS = {
    "all": f"assert len(runs(root=root)) == {COUNT}",
    "some": f"assert len(runs('strategy=snip10,status=complete', root=root)) == {TRAININGS * LEVELS}",
    "one": "from pathlib import Path; assert open_run(next(Path(root).glob('train_*')).name, root).results",
    "table": """
import contextlib, io
from cli.main import main
out = io.StringIO()
with contextlib.redirect_stdout(out):
    assert main(["table", f"--root={root}", "--over=lr"]) == 0
assert all(name in out.getvalue() for name in ("dense", "synflow"))
assert not {"pandas", "numpy"} & set(sys.modules), "a table in text must not import pandas"
""",
    "curves": f"""
from analysis.figures.plot import plot
from tempfile import TemporaryDirectory
drawn = plot("curves", root, over="lr")
assert sum(point["n"] for point in drawn.points) == {COUNT}
with TemporaryDirectory() as folder:
    drawn.write(folder + "/curves.pdf")
""",
}
SCRIPT = """
import sys
root = sys.argv[1]
from analysis.run import open_run
from analysis.runs import runs
{work}
assert "torch" not in sys.modules, "reading runs must not import torch"
"""
WORDS = {
    "all": f"{COUNT:,} runs as a table, in a new interpreter",
    "some": f"some of {COUNT:,} runs as a table, in a new interpreter",
    "one": f"one of {COUNT:,} runs opened by its address, in a new interpreter",
    "table": f"{COUNT:,} runs as a table of means in text, in a new interpreter",
    "curves": f"{COUNT:,} runs drawn as curves, in a new interpreter",
}
AIMS = {"all": 2.0, "some": 2.0, "one": 1.0, "table": 5.0, "curves": 5.0}
"""Seconds."""


def rows(repeats: int = 5) -> list[Row]:
    """Measure the works in turn."""
    with tempfile.TemporaryDirectory() as folder:
        make_complete(_grid(), Path(folder))

        def work(name: str) -> None:
            script = SCRIPT.format(work=WORKS[name])
            subprocess.run([sys.executable, "-c", script, folder], check=True)

        times = in_turn({name: lambda name=name: work(name) for name in WORKS}, repeats)  # type: ignore[misc]
    took = {name: statistics.median(each) for name, each in times.items()}
    return [
        Row(WORDS[name], took[name] / AIMS[name], f"at most 1 of {AIMS[name]:g} s", f"{took[name]:.2f} s, n={repeats}")
        for name in WORKS
    ]


def _grid() -> list[Desc]:
    """Return trainings, and branches of each by every strategy at every level."""
    descs: list[Desc] = []
    for number in range(TRAININGS):
        main = TrainDesc.of({**recipe("cifar_resnet_20"), "lr": (number + 1) / 100})
        descs.append(main)
        for strategy, level in itertools.product(STRATEGIES, range(1, LEVELS + 1)):
            values = {"strategy": strategy, "density": level / (LEVELS + 1)}
            descs.append(oneshot(RunRef(main), PruningHparams.of(values), OneshotFlags.of(values)))
    return descs


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:<60}{row.ratio:8.3f}   {row.aim:<22}{row.detail}")
