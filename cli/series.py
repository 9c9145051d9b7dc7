"""Several runs that one command asks for, such as the levels of a lottery, computed by one plan."""

from __future__ import annotations

from collections.abc import Mapping

from cli.job_flags import JobHparams
from cli.jobs import plan_table, with_context
from cli.table import percent, table
from foundations.environment import Environment
from foundations.plan import Target, plan
from foundations.store import short_address
from platforms.base import PlatformHparams
from training.execution import execute


def run_series(
    targets: Mapping[str, Target],
    what: str,
    job: JobHparams,
    platform: PlatformHparams,
    environment: Environment,
    first_line: str = "",
) -> int:
    """Compute runs as the flags say, or reuse them, and print a row for each.

    what: the heading of their names. first_line: what is said before.
    """
    root = job.root_in(environment)
    if job.display_output_location:
        for target in targets.values():
            print(target.desc.location(job.replicate).under(root))
        return 0
    made = plan(targets.values(), root)
    if job.dry_run:
        for name, target in targets.items():
            planned = made[target.desc.location(job.replicate)]
            print(f"{what} {name}: {planned.status}, {planned.run.folder}")
        print(f"\n{plan_table(made)}")
        return 0
    if first_line and not job.quiet:
        print(first_line, flush=True)
    computed = with_context(job, platform, environment, lambda context: execute(made, context))
    if not job.quiet:
        rows = []
        for name, target in targets.items():
            planned = made[target.desc.location(job.replicate)]
            results = planned.manifest.results if planned.manifest else {}
            rows.append(
                {
                    what: name,
                    "sparsity": percent(results.get("sparsity", 0.0)),
                    "accuracy": percent(results.get("test_accuracy")),
                    "this time": "computed" if planned in computed else "reused",
                    "address": short_address(planned.run),
                }
            )
        print(table(rows, tuple(rows[0])))
        print(f"results under: {root}")
    return 0
