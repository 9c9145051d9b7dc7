"""OpenLTH's own files: `model_ep<E>_it<I>.pth` and `mask.pth`, pickles of which only tensors are read.

`branches.openlth_log` reads its text files, `branches.openlth_experiment` the directory of a whole experiment.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

from branches.imports import Computed, import_run
from branches.openlth_log import LOGGER, read_metrics
from branches.tickets import last_kept_state
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import explain_os_errors
from foundations.metrics import Metrics
from foundations.run import Run
from foundations.step import Step
from training.context import Context
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import Tensor

_STATE = re.compile(r"model_ep(\d+)_it(\d+)\.pth")


def export_openlth(run: Run, step: Step | None, folder: Path) -> None:
    """Write a state as OpenLTH does: `model_ep<E>_it<I>.pth` and, of a pruned run, `mask.pth` (name -> int tensor)."""
    import torch

    from pruning.mask import Mask

    step = step or last_kept_state(run)
    with explain_os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(run.load_state(step), folder / f"model_{step.file_name_part}.pth")
        if run.has_mask():
            mask = Mask.from_tensors(*run.load_mask())
            torch.save({name: tensor.int() for name, tensor in mask.items()}, folder / "mask.pth")


def import_openlth(folder: Path, main: TrainDesc, context: Context) -> Run:
    """Make a `main` directory of OpenLTH's a run: `model_ep*_it*.pth`, and `mask.pth` and `logger` where they are.

    main: how branches of it train. Raises: EnvironmentFailure, DamagedError.
    """
    computed = read_openlth(folder, main)
    if not computed.states:
        raise EnvironmentFailure(
            f"There is no model_ep<E>_it<I>.pth in {folder}; name OpenLTH's .../replicate_1/main itself, "
            "or the directory of a whole experiment, train_<hash> or lottery_<hash>."
        )
    return import_run(main, computed, context)


def read_openlth(folder: Path, main: TrainDesc, level: int | None = None) -> Computed:
    """Return what is in a `main` directory of OpenLTH's. Raises: DamagedError."""
    from pruning.mask import Mask

    found = [_STATE.fullmatch(path.name) for path in sorted(folder.glob("model_*.pth"))]
    states = {
        main.start.at(int(match[1]) * main.iterations_per_epoch + int(match[2])): _load_pickle(folder / match[0])
        for match in found
        if match is not None
    }
    mask_path, logger = folder / "mask.pth", folder / LOGGER
    return Computed(
        states=states,
        mask=Mask(_load_pickle(mask_path)) if mask_path.exists() else None,
        metrics=read_metrics(logger) if logger.exists() else Metrics(),
        source=str(folder),
        level=level,
    )


def _load_pickle(path: Path) -> dict[str, Tensor]:
    """Return a dictionary of tensors from a pickle, executing nothing in it. Raises: DamagedError for anything else."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DamagedError(f"{path} cannot be read as OpenLTH's tensors: {reason}") from error
    if not isinstance(content, dict) or not all(torch.is_tensor(value) for value in content.values()):
        raise DamagedError(f"{path} holds something other than named tensors.")
    return content
