"""Runs that a remote has are pulled before a job computes them."""

from __future__ import annotations

from collections.abc import Callable

from cli.progress.reporting import reporting
from cli.request.job_flags import RequestHparams
from foundations.environment import Environment
from foundations.errors import EnvironmentFailure, UsageError
from foundations.files import explain_os_errors
from foundations.interrupts import CONTINUES, Interrupts
from foundations.plan import Plan
from foundations.reporter import Reporter


def planned_with_remote(make_plan: Callable[[], Plan], job: RequestHparams, environment: Environment) -> Plan:
    """Plan runs; where the job names a remote, pull those that it has, the requested ones first, and plan again.

    A remote that cannot be asked is reported in a sentence, and the runs are computed.
    Raises: UsageError where the job's remote is neither a URL nor a name.
    """
    made = make_plan()
    if job.remote is None or job.dry_run or job.display_output_location:
        return made
    with reporting(job.quiet) as reporter, Interrupts(CONTINUES, "pull").caught():
        try:
            for only_targets in (True, False):
                if _pull_missing(made, only_targets, job, environment, reporter):
                    made = make_plan()
        except EnvironmentFailure as error:
            first, *_ = str(error).splitlines()
            reporter.say(f"{first} The runs are computed here.")
    return made


def _pull_missing(
    made: Plan, only_targets: bool, job: RequestHparams, environment: Environment, reporter: Reporter
) -> bool:
    """Pull the runs of a plan that are not complete here and are in the remote; return whether some were pulled."""
    from foundations.remotes.listing import Listing
    from foundations.remotes.names import url_of
    from foundations.remotes.opening import open_storage
    from foundations.remotes.pull import Pull
    from foundations.storage.locks import lock

    try:
        storage = open_storage(url_of(job.remote or "", environment.site))
    except UsageError as error:
        raise UsageError(error.reason, "remote") from error
    waiting = [each for each in made.to_do() if each.manifest is None and (each.is_target or not only_targets)]
    if not waiting:
        return False
    root = job.root_in(environment)
    pulling = Pull(root, storage, Listing.of(storage), reporter)
    there = [each.run.location for each in waiting if pulling.has(each.run.location)]
    if not there:
        return False
    with explain_os_errors("work in", root), lock(pulling.lock_path, f"a pull from {storage.url}", reporter.say):
        found = pulling.receive(there, alone=True)
        pulling.clear()
    for location in found.sent:
        reporter.say(f"Pulled {location} from {storage.url}")
    for line in (*found.notes, *found.problems):
        reporter.say(line)
    return bool(found.sent)
