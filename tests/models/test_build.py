import math

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from foundations.random_streams import global_generator_from
from models import initializers
from models.activations import ACTIVATIONS
from models.build import build_model, output_layer
from models.hparams import ACTIVATIONS as ACTIVATION_NAMES
from models.hparams import BATCHNORM_INITS, BIAS_INITS, MODEL_INITS, ModelHparams

IMAGE = (3, 32, 32)


def build(name="cifar_resnet_8", outputs=10, input_shape=IMAGE, seed=1, **hparams):
    return build_model(
        ModelHparams(model_name=name, **hparams), outputs=outputs, input_shape=input_shape, seed_keys=(seed,)
    )


def frozen(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def names_of_batchnorm(model):
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize("name", ["cifar_resnet_8", "mnist_lenet_40_20", "digits_resnet_8", "digits_lenet_40"])
def test_a_network_is_a_function_of_its_hyperparameters_and_seed(name):
    first, again, other = build(name), build(name), build(name, seed=2)

    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_building_neither_reads_nor_moves_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = build()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)

    assert torch.equal(first.conv.weight, build().conv.weight)


@pytest.mark.parametrize("name", ["cifar_resnet_8", "mnist_lenet_40_20"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8)])
def test_a_network_takes_any_image_and_gives_any_number_of_outputs(name, shape):
    model = build(name, outputs=7, input_shape=shape)

    logits = model(torch.zeros(2, *shape))
    logits.sum().backward()

    assert logits.shape == (2, 7)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_outputs_given_as_a_hyperparameter_come_first():
    assert build(outputs=200).fc.out_features == 200
    assert (
        build_model(ModelHparams(outputs=1000), outputs=200, input_shape=IMAGE, seed_keys=(1,)).fc.out_features == 1000
    )


def weights(model_init):
    model = build("mnist_lenet_400_300", input_shape=(1, 28, 28), model_init=model_init)
    return model.fc_layers[1].weight.detach()


def test_kaiming_normal_has_variance_two_over_fan_in_and_normal_tails():
    w = weights("kaiming_normal")

    assert w.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.01)
    assert (w.abs() > 2 * math.sqrt(2 / 400)).float().mean().item() == pytest.approx(0.0455, abs=0.003)


def test_kaiming_uniform_has_the_same_variance_within_its_bound():
    w = weights("kaiming_uniform")

    assert w.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.01)
    assert w.abs().max().item() == pytest.approx(math.sqrt(6 / 400), rel=1e-3)


def test_orthogonal_rows_are_orthonormal():
    w = weights("orthogonal")

    torch.testing.assert_close(w @ w.T, torch.eye(300), atol=1e-5, rtol=0)


def test_binary_is_plus_or_minus_the_kaiming_deviation():
    w = weights("binary")

    torch.testing.assert_close(w.abs(), torch.full_like(w, math.sqrt(2 / 400)))
    assert (w > 0).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_standard_normal_has_the_deviation_of_the_code_and_not_of_its_documentation():
    assert weights("standard_normal").std().item() == pytest.approx(0.1, rel=0.01)


def test_fan_in_of_a_convolution_counts_its_window():
    w = build("cifar_resnet_8_64").blocks[0].conv1.weight

    assert w.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.01)


def test_fan_out_of_a_convolution_counts_its_window():
    w = build("cifar_resnet_8_64", model_init="kaiming_normal_fan_out").blocks[1].conv1.weight

    assert w.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.01)


def test_xavier_normal_has_the_mean_of_both_fans():
    assert weights("xavier_normal").std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.01)


def test_small_normal_has_a_deviation_of_a_hundredth():
    assert weights("small_normal").std().item() == pytest.approx(0.01, rel=0.01)


def test_as_built_is_what_pytorch_draws():
    with global_generator_from("init", 1):
        expected = nn.Linear(784, 400), nn.Linear(400, 300)

    assert torch.equal(weights("as_built"), expected[1].weight)


def test_linear_layers_can_have_an_initializer_of_their_own():
    model = build("cifar_vgg_11", model_init="kaiming_normal", linear_init="small_normal")

    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.layers[0].conv.weight.std().item() == pytest.approx(math.sqrt(2 / 27), rel=0.05)


def test_biases_can_be_zero_or_normal():
    zero = build("mnist_lenet_400_300", input_shape=(1, 28, 28), bias_init="zero")
    normal = build("mnist_lenet_400_300", input_shape=(1, 28, 28), bias_init="standard_normal")

    assert all((layer.bias == 0).all() for layer in (*zero.fc_layers, zero.fc))
    assert normal.fc_layers[0].bias.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("model_init", MODEL_INITS)
def test_biases_keep_the_default_of_pytorch(model_init):
    bias = build("mnist_lenet_400_300", input_shape=(1, 28, 28), model_init=model_init).fc_layers[1].bias

    assert bias.abs().max().item() == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert bias.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.1)


@pytest.mark.parametrize(
    ("batchnorm_init", "low", "high", "mean", "shift"),
    [("uniform", 0, 1, 0.5, 0), ("fixed", 1, 1, 1, 0), ("oneone", 1, 1, 1, 1), ("positivenegative", -1, 1, 0, 0)],
)
def test_batchnorm_initializers(batchnorm_init, low, high, mean, shift):
    layer = build("cifar_resnet_8_512", batchnorm_init=batchnorm_init).bn

    assert low <= layer.weight.min().item() <= layer.weight.max().item() <= high
    assert layer.weight.mean().item() == pytest.approx(mean, abs=0.1)
    assert layer.weight.max().item() == pytest.approx(high, abs=0.02)
    assert (layer.bias == shift).all()


def test_tosts_batchnorm_scales_are_drawn_around_1():
    layer = build("cifar_resnet_8_512", batchnorm_init="nearly_one").bn

    assert layer.weight.mean().item() == pytest.approx(1, abs=0.005)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert (layer.bias == 0).all()


def test_the_choices_on_the_command_line_are_what_exists():
    assert set(MODEL_INITS) == set(initializers.WEIGHTS)
    assert set(BIAS_INITS) == set(initializers.BIASES)
    assert set(BATCHNORM_INITS) == set(initializers.BATCHNORMS)
    assert set(ACTIVATION_NAMES) == set(ACTIVATIONS)


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


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_the_activation_is_its_formula_and_is_everywhere(activation):
    x = torch.linspace(-4, 4, 50, dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS[activation](x), FORMULAS[activation](x))

    for name in ("cifar_resnet_8_4", "cifar_vgg_11", "cifar_wideresnet_10_1", "imagenet_resnet_50_8", "synflow_conv"):
        model = build(name, activation=activation)
        functions = {id(m.act) for m in model.modules() if hasattr(m, "act")}
        functions |= {id(m.function) for m in model.modules() if hasattr(m, "function")}
        assert functions == {id(ACTIVATIONS[activation])}
        assert not any(isinstance(m, nn.ReLU) for m in model.modules())


def test_torchvisions_networks_want_images_in_colour():
    with pytest.raises(UsageError, match="torchvision_resnet18 takes images of 3 channels, not 1"):
        build("torchvision_resnet18", input_shape=(1, 28, 28))


def test_nothing_is_frozen_by_default():
    assert frozen(build()) == set()


def test_frozen_batchnorm_is_its_scales_and_shifts():
    model = build(batchnorm_frozen=True)

    assert frozen(model) == names_of_batchnorm(model)


def test_frozen_output_is_the_last_layer():
    assert frozen(build(output_frozen=True)) == {"fc.weight", "fc.bias"}


def test_frozen_others_are_neither_batchnorm_nor_output():
    model = build(others_frozen=True)
    everything = {name for name, _ in model.named_parameters()}

    assert frozen(model) == everything - names_of_batchnorm(model) - {"fc.weight", "fc.bias"}


def test_exceptions_stay_trainable():
    spared = {"conv.weight", "blocks.1.conv2.weight"}

    all_others = frozen(build(others_frozen=True))
    assert frozen(build(others_frozen=True, others_frozen_exceptions=",".join(spared))) == all_others - spared


def test_an_exception_that_is_no_parameter_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match=r"^--others_frozen_exceptions: .* 'conv.weigth'. Did you mean 'conv.weight'"):
        build(others_frozen=True, others_frozen_exceptions="conv.weigth")


def test_frozen_parameters_do_not_move_and_the_rest_does():
    model = build(batchnorm_frozen=True, output_frozen=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

    model(torch.randn(4, *IMAGE, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()

    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == names_of_batchnorm(model) | {"fc.weight", "fc.bias"}


def test_the_output_layer_makes_the_logits():
    resnet, lenet = build(), build("mnist_lenet_5")

    assert output_layer(resnet) is resnet.fc
    assert output_layer(lenet) is lenet.fc
