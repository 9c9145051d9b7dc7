import math
from typing import Any

import pytest
import torch
from torch import nn

from foundations.errors import EnvironmentFailure, UsageError
from foundations.inputs import Inputs
from foundations.random_streams import global_generator_from
from models.activations import ACTIVATIONS, activation
from models.build import build_model, construct, freeze, initialize_masked, output_layer
from models.hparams import ModelHparams
from models.initializers import WEIGHT_INITS

IMAGE = (3, 32, 32)


def build(
    name: str = "cifar_resnet_8",
    outputs: int = 10,
    input_shape: tuple[int, int, int] = IMAGE,
    seed: int = 1,
    **hparams: Any,
) -> Any:
    return build_model(
        ModelHparams(model_name=name, **hparams), outputs=outputs, inputs=Inputs(input_shape), seed_keys=(seed,)
    )


def frozen(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def names_of_batchnorm(model: nn.Module) -> set[str]:
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize("name", ["cifar_resnet_8", "mnist_lenet_40_20", "digits_resnet_8", "digits_lenet_40"])
def test_a_network_is_a_function_of_its_hyperparameters_and_seed(name: str) -> None:
    first, again, other = build(name), build(name), build(name, seed=2)

    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_building_neither_reads_nor_advances_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = build()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)

    assert torch.equal(first.conv.weight, build().conv.weight)


@pytest.mark.parametrize("name", ["cifar_resnet_8", "mnist_lenet_40_20"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8)])
def test_a_network_takes_any_image_and_gives_any_number_of_outputs(name: str, shape: tuple[int, int, int]) -> None:
    model = build(name, outputs=7, input_shape=shape)

    logits = model(torch.zeros(2, *shape))
    logits.sum().backward()

    assert logits.shape == (2, 7)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_outputs_given_as_a_hyperparameter_override_the_number_of_classes() -> None:
    assert build(outputs=200).fc.out_features == 200
    hparams = ModelHparams(outputs=1000)
    assert output_layer(build_model(hparams, outputs=200, inputs=Inputs(IMAGE), seed_keys=(1,))).out_features == 1000


def weights(model_init: str) -> torch.Tensor:
    model = build("mnist_lenet_400_300", input_shape=(1, 28, 28), model_init=model_init)
    weight: torch.Tensor = model.fc_layers[1].weight.detach()
    return weight


def test_kaiming_normal_has_variance_two_over_fan_in_and_normal_tails() -> None:
    w = weights("kaiming_normal")

    assert w.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.01)
    assert (w.abs() > 2 * math.sqrt(2 / 400)).float().mean().item() == pytest.approx(0.0455, abs=0.003)


def test_kaiming_uniform_has_the_same_variance_within_its_bound() -> None:
    w = weights("kaiming_uniform")

    assert w.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.01)
    assert w.abs().max().item() == pytest.approx(math.sqrt(6 / 400), rel=1e-3)


def test_orthogonal_rows_are_orthonormal() -> None:
    w = weights("orthogonal")

    torch.testing.assert_close(w @ w.T, torch.eye(300), atol=1e-5, rtol=0)


def test_binary_is_plus_or_minus_the_kaiming_deviation() -> None:
    w = weights("binary")

    torch.testing.assert_close(w.abs(), torch.full_like(w, math.sqrt(2 / 400)))
    assert (w > 0).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_standard_normal_has_the_deviation_of_the_code_and_not_of_the_paper() -> None:
    assert weights("standard_normal").std().item() == pytest.approx(0.1, rel=0.01)


def test_fan_in_of_a_convolution_counts_its_window() -> None:
    w = build("cifar_resnet_8_64").blocks[0].conv1.weight

    assert w.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.01)


def test_fan_out_of_a_convolution_counts_its_window() -> None:
    w = build("cifar_resnet_8_64", model_init="kaiming_normal_fan_out").blocks[1].conv1.weight

    assert w.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.01)


def test_xavier_normal_has_the_mean_of_both_fans() -> None:
    assert weights("xavier_normal").std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.01)


@pytest.mark.parametrize(("name", "deviation"), [("normal_variance_01", math.sqrt(0.1)), ("unit_normal", 1.0)])
def test_the_normal_initializations_of_phew_have_their_deviation(name: str, deviation: float) -> None:
    assert weights(name).std().item() == pytest.approx(deviation, rel=0.01)


def test_xavier_uniform_has_the_mean_of_both_fans_and_ends() -> None:
    drawn = weights("xavier_uniform")
    assert drawn.std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.01)
    assert drawn.abs().max().item() == pytest.approx(math.sqrt(6 / 700), rel=0.01)


@pytest.mark.parametrize("name", ["liu", "evci", "liu_tinyimagenet", "evci_tinyimagenet"])
@pytest.mark.parametrize("kernel", [(5, 5), ()])
def test_an_initialization_for_a_mask_has_the_deviation_of_its_formula_in_each_unit(
    name: str, kernel: tuple[int, ...]
) -> None:
    """Every unit keeps another share of its inputs; the last keeps none and is drawn like a unit that keeps one."""
    outputs, inputs = 4, 200 if kernel else 5000
    model: Any = nn.Conv2d(inputs, outputs, 5) if kernel else nn.Linear(inputs, outputs)
    bias = model.bias.detach().clone()
    share = torch.tensor([0.8, 0.4, 0.1, 0.0]).view(-1, *[1] * (1 + len(kernel)))
    mask = torch.rand((outputs, inputs, *kernel), generator=torch.Generator().manual_seed(1)) < share

    initialize_masked(model, {"weight": mask}, name, (1,))

    for unit in range(outputs):
        kept, of_unit = int(mask.sum()), max(1, int(mask[unit].sum()))
        variance = {
            "liu": 2 * outputs / kept,
            "evci": 2 / of_unit,
            "liu_tinyimagenet": inputs / kept,
            "evci_tinyimagenet": inputs / (outputs * of_unit),
        }
        assert model.weight[unit].std().item() == pytest.approx(math.sqrt(variance[name]), rel=0.05)
    assert torch.equal(model.bias, bias)


def test_an_initialization_for_a_mask_is_a_function_of_the_mask_and_the_seed() -> None:
    def drawn(seed: int) -> torch.Tensor:
        model = nn.Linear(4, 3)
        initialize_masked(model, {"weight": torch.ones(3, 4, dtype=torch.bool)}, "evci", (seed,))
        return model.weight.detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_small_normal_has_a_deviation_of_a_hundredth() -> None:
    assert weights("small_normal").std().item() == pytest.approx(0.01, rel=0.01)


def test_as_built_is_what_pytorch_draws() -> None:
    with global_generator_from("init", 1):
        expected = nn.Linear(784, 400), nn.Linear(400, 300)

    assert torch.equal(weights("as_built"), expected[1].weight)


def test_linear_layers_can_have_an_initializer_of_their_own() -> None:
    model = build("cifar_vgg_11", model_init="kaiming_normal", linear_init="small_normal")

    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.layers[0].conv.weight.std().item() == pytest.approx(math.sqrt(2 / 27), rel=0.05)


def test_biases_can_be_zero_or_normal() -> None:
    zero = build("mnist_lenet_400_300", input_shape=(1, 28, 28), bias_init="zero")
    normal = build("mnist_lenet_400_300", input_shape=(1, 28, 28), bias_init="standard_normal")

    assert all((layer.bias == 0).all() for layer in (*zero.fc_layers, zero.fc))
    assert normal.fc_layers[0].bias.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("model_init", WEIGHT_INITS.spellings())
def test_biases_keep_the_default_of_pytorch(model_init: str) -> None:
    bias = build("mnist_lenet_400_300", input_shape=(1, 28, 28), model_init=model_init).fc_layers[1].bias

    assert bias.abs().max().item() == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert bias.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.1)


@pytest.mark.parametrize(
    ("batchnorm_init", "low", "high", "mean", "shift"),
    [("uniform", 0, 1, 0.5, 0), ("fixed", 1, 1, 1, 0), ("oneone", 1, 1, 1, 1), ("positivenegative", -1, 1, 0, 0)],
)
def test_batchnorm_initializers(batchnorm_init: str, low: float, high: float, mean: float, shift: float) -> None:
    layer = build("cifar_resnet_8_512", batchnorm_init=batchnorm_init).bn

    assert low <= layer.weight.min().item() <= layer.weight.max().item() <= high
    assert layer.weight.mean().item() == pytest.approx(mean, abs=0.1)
    assert layer.weight.max().item() == pytest.approx(high, abs=0.02)
    assert (layer.bias == shift).all()


def test_batchnorm_scales_of_tost_are_drawn_around_1() -> None:
    layer = build("cifar_resnet_8_512", batchnorm_init="nearly_one").bn

    assert layer.weight.mean().item() == pytest.approx(1, abs=0.005)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert (layer.bias == 0).all()


FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "swish": lambda x: x / (1 + (-x).exp()),
    "softplus": lambda x: (1 + x.exp()).log(),
    "elu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "pswish": lambda x: x / (1 + (-2 * x).exp()),
    "mish": lambda x: x * (1 + x.exp()).log().tanh(),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "lisht": lambda x: x * x.tanh(),
}


@pytest.mark.parametrize("chosen", ACTIVATIONS.spellings())
def test_the_activation_is_its_formula_and_is_everywhere(chosen: str) -> None:
    x = torch.linspace(-4, 4, 50, dtype=torch.float64)
    torch.testing.assert_close(activation(chosen)(x), FORMULAS[chosen](x))

    for name in ("cifar_resnet_8_4", "cifar_vgg_11", "cifar_wideresnet_10_1", "imagenet_resnet_50_8", "synflow_conv"):
        model = build(name, activation=chosen)
        functions = {id(m.act) for m in model.modules() if hasattr(m, "act")}
        functions |= {id(m.function) for m in model.modules() if hasattr(m, "function")}
        assert functions == {id(activation(chosen))}
        assert not any(isinstance(m, nn.ReLU) for m in model.modules())


def test_networks_of_torchvision_refuse_images_that_are_not_in_colour() -> None:
    with pytest.raises(UsageError, match="torchvision_resnet18 takes images of 3 channels, not 1"):
        build("torchvision_resnet18", input_shape=(1, 28, 28))


def test_nothing_is_frozen_by_default() -> None:
    assert frozen(build()) == set()


def test_frozen_batchnorm_is_its_scales_and_shifts() -> None:
    model = build(batchnorm_frozen=True)

    assert frozen(model) == names_of_batchnorm(model)


def test_frozen_output_is_the_last_layer() -> None:
    assert frozen(build(output_frozen=True)) == {"fc.weight", "fc.bias"}


def test_frozen_others_are_neither_batchnorm_nor_output() -> None:
    model = build(others_frozen=True)
    everything = {name for name, _ in model.named_parameters()}

    assert frozen(model) == everything - names_of_batchnorm(model) - {"fc.weight", "fc.bias"}


def test_exceptions_of_frozen_others_stay_trainable() -> None:
    exceptions = {"conv.weight", "blocks.1.conv2.weight"}

    all_others = frozen(build(others_frozen=True))
    assert frozen(build(others_frozen=True, others_frozen_exceptions=",".join(exceptions))) == all_others - exceptions


def test_an_exception_that_is_not_a_parameter_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"^others_frozen_exceptions: .* 'conv.weigth'. Did you mean 'conv.weight'"):
        build(others_frozen=True, others_frozen_exceptions="conv.weigth")


@pytest.mark.parametrize("hparams", [{}, {"output_frozen": True}, {"others_frozen": True}, {"batchnorm_frozen": True}])
def test_what_a_network_has_frozen_itself_stays_frozen(hparams: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    own = {"0.weight", "1.bias", "3.bias"}
    for name in own:
        model.get_parameter(name).requires_grad_(False)

    freeze(model, ModelHparams(model_name="cifar_resnet_8", **hparams))

    assert frozen(model) >= own
    assert hparams or frozen(model) == own


def test_only_parameters_that_are_not_frozen_are_trained() -> None:
    model = build(batchnorm_frozen=True, output_frozen=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

    model(torch.randn(4, *IMAGE, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()

    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == names_of_batchnorm(model) | {"fc.weight", "fc.bias"}


def test_the_output_layer_computes_the_logits() -> None:
    resnet, lenet = build(), build("mnist_lenet_5")

    assert output_layer(resnet) is resnet.fc
    assert output_layer(lenet) is lenet.fc


def test_a_network_that_no_memory_holds_is_refused_in_words() -> None:
    hparams = ModelHparams(model_name="digits_lenet_999999_999999")

    with pytest.raises(EnvironmentFailure, match="not enough memory"):
        construct(hparams, 10, Inputs((1, 8, 8)))
