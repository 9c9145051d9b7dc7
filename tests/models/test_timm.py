"""Networks of timm, where it is installed."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import cast
from unittest.mock import Mock

import pytest
import torch

from foundations.errors import EnvironmentFailure, UsageError
from foundations.inputs import Inputs
from models.build import build_model
from models.families.timm_models import _names
from models.hparams import ModelHparams
from models.shape_check import check_network
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("timm")
SMALL = Inputs((1, 32, 32))


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    """The library, which takes seconds to import: by the tests, not with this module."""
    return cast("ModuleType", pytest.importorskip("timm"))


def built(name: str, inputs: Inputs = SMALL) -> torch.nn.Module:
    hparams = ModelHparams(model_name=f"timm_{name}", model_init="as_built", batchnorm_init="fixed")
    return build_model(hparams, outputs=3, inputs=inputs, seed_keys=(1,))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_a_network_is_built_for_the_channels_size_and_classes_of_the_dataset(name: str) -> None:
    model, again = built(name), built(name)

    assert model(SMALL.drawn(2)).shape == (2, 3)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_the_names_in_the_files_are_those_that_the_library_lists(timm: ModuleType) -> None:
    assert set(_names()) == set(timm.list_models())


def test_checking_a_name_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys\n"
        "from models.hparams import ModelHparams\n"
        "ModelHparams(model_name='timm_resnet18').check_planned()\n"
        "sys.exit(bool({'torch', 'timm'} & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", r"^model_name: timm has no network 'resnet19'. Did you mean 'resnet18'\?"),
        ("resnet18.a1_in1k", "names pretrained weights; leave out '.a1_in1k'"),
    ],
)
def test_a_name_that_timm_does_not_have_is_refused_when_a_run_is_planned(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelHparams(model_name=f"timm_{name}").check_planned()


def test_a_stored_name_that_timm_does_not_have_can_be_read() -> None:
    assert ModelHparams(model_name="timm_of_another_version").normalized(1).model_name == "timm_of_another_version"


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("vit_tiny_patch16_224", Inputs((3, 8, 8))),
        ("inception_v4", Inputs((3, 32, 32))),
        ("halonet26t", Inputs((3, 64, 64))),
    ],
)
def test_images_of_a_size_that_a_network_is_not_for_are_refused_in_one_sentence(name: str, inputs: Inputs) -> None:
    hparams = ModelHparams(model_name=f"timm_{name}")

    with pytest.raises(UsageError, match=f"timm_{name} cannot (run on the|be built for) images of ") as caught:
        check_network(built(name, inputs), hparams, 3, inputs, "scans")

    assert "\n" not in str(caught.value)


def test_whatever_timm_raises_is_one_sentence_with_its_message(
    monkeypatch: pytest.MonkeyPatch, timm: ModuleType
) -> None:
    monkeypatch.setattr(timm, "create_model", Mock(side_effect=AttributeError("no such\nthing")))

    with pytest.raises(UsageError, match=r"^model_name: timm_test_vit cannot be built for images of .*: no such\.$"):
        built("test_vit")


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(EnvironmentFailure, match=r"pip install 'open_prune\[timm\]'"):
        built("test_resnet")


@pytest.mark.parametrize("name", ["ghostnet_050", "swin_tiny_patch4_window7_224", "test_resnet"])
def test_a_network_that_drops_resumes_and_leaves_the_global_generator_alone(name: str) -> None:
    inputs = Inputs((3, 32, 32))
    model, x = built(name, inputs).train(), inputs.drawn(2)
    model(x)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    before, expected = torch.get_rng_state(), model(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)

    model.load_state_dict(state)

    assert torch.equal(model(x), expected)
