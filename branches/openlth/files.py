"""OpenLTH's own files: `model_ep<E>_it<I>.pth` and `mask.pth`, pickles; only their tensors are read.

`branches.openlth.log` reads its text files, `branches.openlth.experiment` the directory of a whole experiment.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from branches.imported.imported_run import Computed, import_run
from branches.imported.pickled_tensors import read_named_tensors
from branches.imported.tickets import last_kept_state
from branches.openlth.log import LOGGER, read_metrics
from foundations.description.step import Step
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.files import explain_os_errors, replacing
from foundations.metrics import Metrics
from foundations.storage.run import Run
from training.context import Context
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask

_WHAT = "OpenLTH's tensors"
_STATE = re.compile(r"model_ep(\d+)_it(\d+)\.pth")


def export_openlth(run: Run, step: Step | None, folder: Path) -> None:
    """Write a state as OpenLTH does: `model_ep<E>_it<I>.pth` and, of a pruned run, `mask.pth` (name -> int tensor)."""
    import torch

    from pruning.masks.mask import Mask

    step = step or last_kept_state(run)
    with explain_os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        contents = {f"model_{step.file_name_part}.pth": run.load_state(step)}
        if run.has_mask():
            mask = Mask.of_run(run)
            contents["mask.pth"] = {name: tensor.int() for name, tensor in mask.items()}
        for name, content in contents.items():
            data = io.BytesIO()  # on a full disk, torch raises RuntimeError, not OSError
            torch.save(content, data)
            with replacing(folder / name) as part:
                part.write_bytes(data.getvalue())


def import_openlth(folder: Path, main: TrainDesc, context: Context) -> Run:
    """Create a run from a `main` directory of OpenLTH: `model_ep*_it*.pth`, and `mask.pth` and `logger` if they exist.

    main: the training of its branches. Raises: EnvironmentFailure, DamagedError.
    """
    computed = read_openlth(folder, main)
    if not computed.states:
        raise EnvironmentFailure(
            f"There is no model_ep<E>_it<I>.pth in {folder}; name OpenLTH's .../replicate_1/main itself, "
            "or the directory of a whole experiment, train_<hash> or lottery_<hash>."
        )
    return import_run(main, computed, context)


def read_openlth(folder: Path, main: TrainDesc, level: int | None = None) -> Computed:
    """Return the results in a `main` directory of OpenLTH. Raises: DamagedError.

    The mask is applied to the states, as OpenLTH does when it loads them: it saves weights as the optimizer left them.
    """
    found = [_STATE.fullmatch(path.name) for path in sorted(folder.glob("model_*.pth"))]
    states = {
        main.start.at(int(match[1]) * main.iterations_per_epoch + int(match[2])): read_named_tensors(
            folder / match[0], _WHAT
        )
        for match in found
        if match is not None
    }
    mask_path, logger = folder / "mask.pth", folder / LOGGER
    mask = _mask(mask_path) if mask_path.exists() else None
    return Computed(
        states={step: _masked(state, mask) for step, state in states.items()},
        mask=mask,
        metrics=read_metrics(logger) if logger.exists() else Metrics(),
        source=str(folder),
        level=level,
    )


def _mask(path: Path) -> Mask:
    from pruning.masks.mask import Mask

    try:
        return Mask(read_named_tensors(path, _WHAT))
    except UsageError as error:
        raise DamagedError(f"{path}: {error.reason}") from error


def _masked(state: Mapping[str, Tensor], mask: Mask | None) -> dict[str, Tensor]:
    if mask is None:
        return dict(state)
    fitting = [name for name, tensor in state.items() if name in mask and tensor.shape == mask[name].shape]
    return {**state, **{name: state[name].masked_fill(~mask[name], 0) for name in fitting}}
