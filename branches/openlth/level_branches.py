"""Branches in experiments of OpenLTH and of its fork: `lottery_branch_<name>_<hash>`, `train_branch_<name>_<hash>`.

    lottery_<hash>/replicate_1/level_1/lottery_branch_randomly_prune_<hash>/     model_ep*_it*.pth, mask.pth, logger
    train_<hash>/replicate_1/train_branch_oneshot_experiments_<hash>/            the same

They do not record their hyperparameters: there is no hparams.log, and the hash covers the branch's options alone. So a
description gives only what the files show: the first weights and the starting mask, if they belong to a run that was
imported before. The name and the content identify the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from branches.desc import BranchHparams, mask_of
from branches.imported.imported_run import Computed, ImportedBranchDesc, OriginHparams
from branches.kinds import load_desc
from foundations.description.desc import MaskOf, RunRef, StateOf
from foundations.description.step import Step
from foundations.storage.run import Run
from training.desc import TrainDesc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pruning.masks.mask import Mask

BRANCH = re.compile(r"((?:lottery|train)_branch_\w+)_[0-9a-f]+")
"""The name of a branch's directory; the group is the branch's name."""


def branch_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the branches in a directory of a level or of a replicate, sorted, each with its name."""
    for path in sorted(folder.glob("*_branch_*/")):
        match = BRANCH.fullmatch(path.name)
        if match is not None:
            yield match[1], path


def describe_branch(dense: Run, parent: Run, computed: Computed) -> Callable[[OriginHparams], ImportedBranchDesc]:
    """Return the function from a branch's origin to its description.

    dense: the run of level 0, or the training. parent: the run of the branch's level.
    """
    main, source, start = load_desc(dense), RunRef(load_desc(parent)), min(computed.states)
    assert isinstance(main, TrainDesc)
    first = computed.states[start]
    known = [(dense, RunRef(main), step) for step in dense.kept_states(main.iterations_per_epoch)]
    known.append((parent, source, main.end))
    state = next((StateOf(ref, step) for run, ref, step in known if _is_state(first, computed.mask, run, step)), None)
    mask, branch = _mask(source, parent, computed.mask, start)
    return partial(ImportedBranchDesc.of, main=main, mask=mask, state=state, branch=branch)


def _is_state(first: Mapping[str, Tensor], mask: Mask | None, run: Run, step: Step) -> bool:
    """Return whether a branch started with the masked weights of a run at a step."""
    import torch

    if not run.has_state(step):
        return False
    state = run.load_state(step)
    masked = {name: tensor * mask[name] if mask and name in mask else tensor for name, tensor in state.items()}
    return masked.keys() == first.keys() and all(torch.equal(tensor, first[name]) for name, tensor in masked.items())


def _mask(source: RunRef, parent: Run, mask: Mask | None, start: Step) -> tuple[MaskOf | None, BranchHparams]:
    """Return the source of a branch's mask, if it is the parent's mask, permuted or not, and the permutation."""
    from pruning.masks.mask import Mask

    plain = BranchHparams(start_step=str(start))
    if mask is None or not parent.has_mask():
        return None, plain
    theirs = Mask.of_run(parent)
    if mask == theirs:
        return mask_of(source), plain
    if mask.kept_per_layer() == theirs.kept_per_layer():
        return mask_of(source), plain.replaced({"randomize_layerwise": True})
    if mask.kept == theirs.kept and mask.keys() == theirs.keys():
        return mask_of(source), plain.replaced({"randomize_globally": True})
    return None, plain
