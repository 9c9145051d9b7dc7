"""Dynamic sparse training, against the trajectories of published code."""

from __future__ import annotations

from typing import Any

import torch

from tests.training.techniques.trajectories import Trajectory


def test_rigl_gives_the_trajectory_of_rigl_torch() -> None:
    case = Trajectory("rigl_torch_mlp")
    own = case.options

    case.replay(
        "rigl",
        mask_update_clock="batches_from_1",
        mask_update_frequency=own["delta"],
        mask_update_end=own["T_end"],
        drop_fraction=own["alpha"],
        grad_accumulation_n=own["grad_accumulation_n"],
    )


def test_itop_gives_the_trajectory_of_its_code_and_the_weights_that_were_ever_kept() -> None:
    case = Trajectory("itop_rigl_mlp")

    training = case.replay("itop", **updates(case))

    fired = case.tensors("fired_step24")
    for name, kept in training.state_dict()["tensors"].items():
        assert torch.equal(kept, fired[name.removeprefix("itop.fired.")].bool())


def updates(case: Trajectory) -> dict[str, Any]:
    return {"mask_update_frequency": case.options["update_frequency"], "drop_fraction": case.options["prune_rate"]}
