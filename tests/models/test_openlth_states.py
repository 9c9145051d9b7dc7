"""States and trajectories of OpenLTH's own networks, from the reference data."""

import json

import pytest
import torch
from safetensors.torch import load_file

from foundations.inputs import Inputs
from models.build import build_model
from models.hparams import ModelHparams
from tests.conftest import golden_case

CASES = [
    "training_resnet20_dense",
    "training_resnet20w6_masked",
    "training_lenet_300_100_dense",
    "training_lenet_60_30_masked",
]


@pytest.mark.parametrize("case", CASES)
def test_a_state_of_openlth_loads_and_gives_its_loss(case: str) -> None:
    folder = golden_case(case)
    description = json.loads((folder / "case.json").read_text())
    spec = description["model"]["spec"]
    model = build_model(
        ModelHparams(model_name=spec["openlth_name"]),
        outputs=spec["classes"],
        inputs=Inputs(tuple(spec["input_shape"])),
        seed_keys=(0,),
    )
    inputs = load_file(folder / "inputs.safetensors")
    weights = load_file(folder / "weights.safetensors")
    batch = description["options"]["batch_size"]

    model.load_state_dict(weights)
    mask_file = folder / "mask.safetensors"
    if mask_file.exists():
        for name, mask in load_file(mask_file).items():
            model.get_parameter(name).data.mul_(mask)
    loss = torch.nn.functional.cross_entropy(model.train()(inputs["x"][:batch]), inputs["y"][:batch])

    assert set(model.state_dict()) == set(weights)
    assert loss.item() == pytest.approx(description["loss_per_step"][0], rel=1e-5)


def test_vgg_has_the_names_of_openlth() -> None:
    model = build_model(ModelHparams(model_name="cifar_vgg_11"), outputs=10, inputs=Inputs((3, 32, 32)), seed_keys=(0,))
    convolutions = (0, 2, 4, 5, 7, 8, 10, 11)  # the numbers in between are pools
    of_batchnorm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    expected = {f"layers.{i}.conv.{kind}" for i in convolutions for kind in ("weight", "bias")}
    expected |= {f"layers.{i}.bn.{kind}" for i in convolutions for kind in of_batchnorm}
    assert set(model.state_dict()) == expected | {"fc.weight", "fc.bias"}
