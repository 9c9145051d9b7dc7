import pytest

from foundations.errors import UsageError
from tests.training.worlds import oneshot_job


@pytest.mark.parametrize("flag", ["prune_step", "state_step", "start_step"])
def test_a_step_after_the_last_is_refused_by_its_flag(flag):
    with pytest.raises(UsageError, match=rf"^--{flag}: 19it is after the last step\. Possible: 0it to 18it"):
        oneshot_job(**{flag: "19it"})


@pytest.mark.parametrize("flag", ["prune_step", "state_step", "start_step"])
def test_the_last_step_is_possible(flag):
    assert oneshot_job(**{flag: "3ep"}).desc.branch.to_dict()[flag] == "18it"


def test_a_branch_lies_beside_its_parent():
    desc = oneshot_job().desc
    location = desc.location(2)

    assert location.trunk == desc.parent.location(2).trunk
    assert (location.replicate, location.part) == (2, f"branch_oneshot_{desc.digest}")


def test_a_new_initialization_takes_the_place_of_a_state():
    desc = oneshot_job(reinitialize=True, state_step="7it", state_experiment="branch_oneshot_0").desc

    assert (desc.branch.state_step, desc.branch.state_experiment) == ("0it", "main")


def test_a_seed_that_cannot_matter_is_dropped():
    assert oneshot_job("magnitude", seed=3).desc.branch.seed is None
    assert oneshot_job("magnitude", seed=3, randomize_layerwise=True).desc.branch.seed == 3
    assert oneshot_job("magnitude", seed=3, randomize_layerwise=True, density=1).desc.branch.seed is None
