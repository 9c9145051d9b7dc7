"""Dynamic sparse training, against the trajectories of published code."""

from __future__ import annotations

from typing import Any

import pytest
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


@pytest.mark.parametrize("name", ["granet_mlp", "granet_from_dense_mlp", "granet_gmp_mlp"])
def test_granet_gives_the_trajectory_of_its_code(name: str) -> None:
    case = Trajectory(name)
    own = case.options

    case.replay(
        "granet",
        **updates(case),
        granet_method=own["method"].lower(),
        granet_density=own["final_density"],
        granet_begin=own["init_prune_epoch"] * own["iterations_per_epoch"],
        granet_end=own["final_prune_epoch"] * own["iterations_per_epoch"],
        **({"start_density": 1.0} if case.mask is None else {"granet_initial_density": own["init_density"]}),
        granet_shortfall=True,
    )


def test_gradual_pruning_gives_the_trajectory_of_granets_code() -> None:
    case = Trajectory("granet_gmp_mlp")
    own = case.options
    at = {name: f"{own[f'{name}_prune_epoch'] * own['iterations_per_epoch']}it" for name in ("init", "final")}

    case.replay(
        "gmp",
        gmp_curve="granet",
        gmp_density=own["final_density"],
        gmp_begin=at["init"],
        gmp_end=at["final"],
        gmp_frequency=own["update_frequency"],
    )


def test_sparse_momentum_gives_the_trajectory_of_its_code() -> None:
    case = Trajectory("snfs_mlp")

    case.replay("snfs", **updates(case), snfs_adjusted_growth=True)


def updates(case: Trajectory) -> dict[str, Any]:
    return {"mask_update_frequency": case.options["update_frequency"], "drop_fraction": case.options["prune_rate"]}
