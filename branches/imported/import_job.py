"""The job of an imported run, which computes nothing."""

from __future__ import annotations

from branches.imported.imported_run import ImportDesc, ImportedBranchDesc
from foundations.errors import EnvironmentFailure
from training.desc import TrainDesc
from training.job import InitialState, Job


class ImportJob(Job[ImportDesc | ImportedBranchDesc]):
    """An imported run: its states can be read, but not computed."""

    @property
    def trained(self) -> TrainDesc:
        """The training of its branches."""
        return self.desc.as_trained

    def initial_state(self) -> InitialState:
        """Raise an EnvironmentFailure: a job asks for the initial state only if a file is missing."""
        kept = ", ".join(map(str, self.run.kept_states(self.desc.iterations_per_epoch))) or "none"
        raise EnvironmentFailure(
            f"{self.run} was imported, so a state that it does not hold cannot be computed. It holds: {kept}."
        )
