"""Functions that the tests of several processes run in each process, which imports this module by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foundations.description.desc import Desc
from foundations.plan import Target, plan
from platforms.platform import Platform
from tests.training.small_runs import context
from training.jobs.one_run import work


def compute_all(descs: Sequence[Desc], root: Path, datasets: Path, platform: Platform) -> list[str]:
    """Compute runs with all that they need, keeping every state; return their devices, as manifests have them."""
    place = context(root, datasets, platform=platform)
    steps = [(desc, range(desc.start.iteration, desc.end.iteration)) for desc in descs]
    targets = [Target(desc, 1, tuple(map(desc.start.at, iterations))) for desc, iterations in steps]
    made = platform.agree(lambda: plan(targets, root))
    for planned in made.to_do():
        work(planned, place, platform)
        platform.agree(planned.refresh)
    return [found.device for planned in made if (found := planned.run.read_manifest()) is not None]
