"""The job of an imported run, which has nothing to compute."""

from __future__ import annotations

from branches.imported.imported_run import ImportDesc, ImportedBranchDesc
from foundations.errors import EnvironmentFailure
from training.desc import TrainDesc
from training.job import InitialState, Job


class ImportJob(Job[ImportDesc | ImportedBranchDesc]):
    """An imported run: its states can be used, but not computed."""

    @property
    def trained(self) -> TrainDesc:
        """How branches of it train."""
        return self.desc.as_trained

    def initial_state(self) -> InitialState:
        """Refuse: this is only called where a file is missing. Raises: EnvironmentFailure."""
        kept = ", ".join(map(str, self.run.kept_states(self.desc.iterations_per_epoch))) or "none"
        raise EnvironmentFailure(
            f"{self.run} was imported, so a state that it does not hold cannot be computed. It holds: {kept}."
        )
