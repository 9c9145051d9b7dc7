"""Sizes of all networks against the tables of the papers' code bases, and a step of each on images of its dataset."""

import functools

import pytest
import torch
from torch import nn

from foundations.inputs import Inputs
from models.build import build_model, construct
from models.hparams import ModelHparams
from pruning.weights.network_size import Size, measure
from tests.models.cheap_draws import CheapDraws
from training.recipes import recipe, recipes

Data = tuple[int, tuple[int, int, int]]
MNIST, CIFAR, TINY, IMAGENET = (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224)
C10, C100, T200, I1000 = (10, CIFAR), (100, CIFAR), (200, TINY), (1000, IMAGENET)
M10 = (10, MNIST)

# (recipe, (classes, shape) of the data, parameters, prunable weights, prunable tensors)
TABLE = [
    # OpenLTH and 'Missing the Mark'
    ("mnist_lenet_300_100", M10, 266_610, 266_200, 3),
    ("mnist_lenet_500_500", M10, 648_010, 647_000, 3),
    ("cifar_resnet_8", C10, 78_042, 77_360, 10),
    ("cifar_resnet_14", C10, 175_258, 174_128, 16),
    ("cifar_resnet_20", C10, 272_474, 270_896, 22),
    ("cifar_resnet_32", C10, 466_906, 464_432, 34),
    ("cifar_resnet_44", C10, 661_338, 657_968, 46),
    ("cifar_resnet_56", C10, 855_770, 851_504, 58),
    ("cifar_resnet_110", C10, 1_730_714, 1_722_416, 112),
    ("cifar_resnet_20_32", C10, 1_084_586, 1_081_440, 22),
    ("cifar_resnet_32_32", C10, 1_860_522, 1_855_584, 34),
    ("cifar_resnet_20_64", C10, 4_327_754, 4_321_472, 22),
    ("cifar_vgg_11", C10, 9_231_114, 9_222_848, 9),
    ("cifar_vgg_13", C10, 9_416_010, 9_407_168, 11),
    ("cifar_vgg_16", C10, 14_728_266, 14_715_584, 14),
    ("cifar_vgg_19", C10, 20_040_522, 20_024_000, 17),
    ("imagenet_resnet_18", I1000, 11_689_512, 11_678_912, 21),
    ("imagenet_resnet_34", I1000, 21_797_672, 21_779_648, 37),
    ("imagenet_resnet_50", I1000, 25_557_032, 25_502_912, 54),
    ("imagenet_resnet_101", I1000, 44_549_160, 44_442_816, 105),
    ("imagenet_resnet_152", I1000, 60_192_808, 60_040_384, 156),
    ("imagenet_resnet_200", I1000, 64_673_832, 64_496_832, 204),
    ("imagenet_resnet_18_128", I1000, 45_693_032, 45_672_832, 21),
    ("imagenet_resnet_50_128", I1000, 98_004_072, 97_896_832, 54),
    ("tinyimagenet_resnet_18", T200, 11_689_512, 11_678_912, 21),  # 1,000 outputs, as its code has
    ("tinyimagenet_resnet_50", T200, 25_557_032, 25_502_912, 54),
    ("tinyimagenet_modifiedresnet_18", T200, 11_681_832, 11_671_232, 21),
    ("tinyimagenet_modifiedresnet_50", T200, 25_549_352, 25_495_232, 54),
    # Synaptic-Flow (trainable parameters; its identity shortcuts carry constant scales, which ours do not)
    ("synflow_fc", M10, 119_910, 119_400, 6),
    ("synflow_fc", C10, 348_710, 348_200, 6),
    ("synflow_conv", M10, 260_458, 260_384, 3),
    ("synflow_conv", C10, 337_834, 337_760, 3),
    ("synflow_vgg_11", C10, 9_225_610, 9_222_848, 9),
    ("synflow_vgg_11_bn", C10, 9_231_114, 9_222_848, 9),
    ("synflow_vgg_13", C10, 9_410_122, 9_407_168, 11),
    ("synflow_vgg_13_bn", C10, 9_416_010, 9_407_168, 11),
    ("synflow_vgg_16", C10, 14_719_818, 14_715_584, 14),
    ("synflow_vgg_16_bn", C10, 14_728_266, 14_715_584, 14),
    ("synflow_vgg_19", C10, 20_029_514, 20_024_000, 17),
    ("synflow_vgg_19_bn", C10, 20_040_522, 20_024_000, 17),
    ("synflow_vgg_16_bn", C100, 14_774_436, 14_761_664, 14),
    ("synflow_vgg_19_bn", C100, 20_086_692, 20_070_080, 17),
    ("synflow_resnet_20", C10, 272_474, 270_896, 22),
    ("synflow_resnet_20", C100, 278_324, 276_656, 22),
    ("synflow_resnet_32", C10, 466_906, 464_432, 34),
    ("synflow_resnet_32", C100, 472_756, 470_192, 34),
    ("synflow_resnet_56", C10, 855_770, 851_504, 58),
    ("synflow_resnet_56", C100, 861_620, 857_264, 58),
    ("synflow_resnet_110", C10, 1_730_714, 1_722_416, 112),
    ("synflow_resnet_110", C100, 1_736_564, 1_728_176, 112),
    ("synflow_wide_resnet_20", C10, 1_084_586, 1_081_440, 22),
    ("synflow_wide_resnet_20", C100, 1_096_196, 1_092_960, 22),
    ("synflow_wide_resnet_32", C10, 1_860_522, 1_855_584, 34),
    ("synflow_wide_resnet_32", C100, 1_872_132, 1_867_104, 34),
    ("synflow_tinyimagenet_vgg_11", T200, 12_573_256, 12_568_256, 11),
    ("synflow_tinyimagenet_vgg_11_bn", T200, 12_578_760, 12_568_256, 11),
    ("synflow_tinyimagenet_vgg_16", T200, 18_067_464, 18_060_992, 16),
    ("synflow_tinyimagenet_vgg_16_bn", T200, 18_075_912, 18_060_992, 16),
    ("synflow_tinyimagenet_vgg_13_bn", T200, 12_763_656, 12_752_576, 13),
    ("synflow_tinyimagenet_vgg_19_bn", T200, 23_388_168, 23_369_408, 19),
    ("synflow_tinyimagenet_resnet_18", T200, 11_271_432, 11_261_632, 21),
    ("synflow_resnet_18", C10, 11_173_962, 11_164_352, 21),
    ("synflow_tinyimagenet_resnet_34", T200, 21_379_592, 21_362_368, 37),
    ("synflow_resnet_34", C10, 21_282_122, 21_265_088, 37),
    ("synflow_tinyimagenet_resnet_50", T200, 23_910_152, 23_856_832, 54),
    ("synflow_resnet_50", C10, 23_520_842, 23_467_712, 54),
    ("tinyimagenet_wideresnet_50", T200, 67_236_360, 67_167_936, 54),
    ("tinyimagenet_wideresnet_50", C10, 66_847_050, 66_778_816, 54),
    ("synflow_tinyimagenet_resnet_101", T200, 42_902_280, 42_796_736, 105),
    ("synflow_tinyimagenet_resnet_152", T200, 58_545_928, 58_394_304, 156),
    ("torchvision_vgg11", I1000, 132_863_336, 132_851_392, 11),
    ("torchvision_vgg16", I1000, 138_357_544, 138_344_128, 16),
    ("torchvision_vgg19", I1000, 143_667_240, 143_652_544, 19),
    ("torchvision_vgg16_bn", I1000, 138_365_992, 138_344_128, 16),
    ("torchvision_vgg19_bn", I1000, 143_678_248, 143_652_544, 19),
    ("imagenet_wideresnet_50", I1000, 68_883_240, 68_814_016, 54),
    ("imagenet_wideresnet_101", I1000, 126_886_696, 126_747_840, 105),
    # PHEW
    ("phew_vgg_11", C10, 9_225_610, 9_222_848, 9),
    ("phew_vgg_11_bn", C10, 9_231_114, 9_222_848, 9),
    ("phew_vgg_11", C100, 9_271_780, 9_268_928, 9),
    ("phew_vgg_11_bn", C100, 9_277_284, 9_268_928, 9),
    ("phew_vgg_16", C10, 14_719_818, 14_715_584, 14),
    ("phew_vgg_16_bn", C10, 14_728_266, 14_715_584, 14),
    ("phew_vgg_19", C10, 20_029_514, 20_024_000, 17),
    ("phew_vgg_19_bn", C10, 20_040_522, 20_024_000, 17),
    ("phew_vgg_16_bn", C100, 14_774_436, 14_761_664, 14),
    ("phew_vgg_19_bn", C100, 20_086_692, 20_070_080, 17),
    ("phew_vgg_16", C100, 14_765_988, 14_761_664, 14),
    ("phew_vgg_19", C100, 20_075_684, 20_070_080, 17),
    ("phew_resnet_20", C10, 272_474, 270_896, 22),
    ("phew_resnet_20", C100, 278_324, 276_656, 22),
    ("phew_resnet_32", C10, 466_906, 464_432, 34),
    ("phew_resnet_32", C100, 472_756, 470_192, 34),
    ("phew_wide_resnet_20", C10, 1_084_586, 1_081_440, 22),
    ("phew_wide_resnet_20", C100, 1_096_196, 1_092_960, 22),
    ("phew_resnet_18", C10, 11_173_962, 11_164_352, 21),
    ("phew_resnet_18", C100, 11_220_132, 11_210_432, 21),
    ("phew_resnet_34", C10, 21_282_122, 21_265_088, 37),
    ("phew_resnet_34", C100, 21_328_292, 21_311_168, 37),
    ("phew_resnet_50", C10, 23_520_842, 23_467_712, 54),
    ("phew_resnet_50", C100, 23_705_252, 23_652_032, 54),
    ("phew_resnet_101", C10, 42_512_970, 42_407_616, 105),
    ("phew_resnet_101", C100, 42_697_380, 42_591_936, 105),
    ("phew_resnet_152", C10, 58_156_618, 58_005_184, 156),
    ("phew_resnet_152", C100, 58_341_028, 58_189_504, 156),
    ("phew_tinyimagenet_vgg_11_bn", T200, 12_578_760, 12_568_256, 11),
    ("phew_tinyimagenet_vgg_16_bn", T200, 18_075_912, 18_060_992, 16),
    ("phew_tinyimagenet_vgg_19", T200, 23_377_160, 23_369_408, 19),
    ("phew_tinyimagenet_vgg_19_bn", T200, 23_388_168, 23_369_408, 19),
    ("phew_tinyimagenet_resnet_18", T200, 11_271_432, 11_261_632, 21),
    ("phew_tinyimagenet_resnet_34", T200, 21_379_592, 21_362_368, 37),
    # GraSP
    ("grasp_vgg_19", C10, 20_035_018, 20_024_000, 17),
    ("grasp_vgg_16", C10, 14_724_042, 14_715_584, 14),
    ("grasp_vgg_11", C10, 9_228_362, 9_222_848, 9),
    ("grasp_vgg_19", C100, 20_081_188, 20_070_080, 17),
    ("grasp_tinyimagenet_vgg_19", T200, 20_132_488, 20_121_280, 17),
    ("grasp_resnet_20", C10, 1_084_586, 1_081_440, 22),
    ("grasp_resnet_32", C10, 1_860_522, 1_855_584, 34),
    ("grasp_resnet_56", C10, 3_412_394, 3_403_872, 58),
    ("grasp_resnet_32", C100, 1_872_132, 1_867_104, 34),
    ("grasp_tinyimagenet_resnet_32", T200, 1_885_032, 1_879_904, 34),
    ("grasp_imagenet_resnet_50", I1000, 25_557_032, 25_502_912, 54),
    # ToST
    ("tost_resnet_18", C10, 11_173_962, 11_164_352, 21),
    ("tost_resnet_18", C100, 11_220_132, 11_210_432, 21),
    ("tost_resnet_34", C10, 21_282_122, 21_265_088, 37),
    ("tost_resnet_34", C100, 21_328_292, 21_311_168, 37),
    ("tost_resnet_50", C10, 23_520_842, 23_467_712, 54),
    ("tost_resnet_101", C10, 42_512_970, 42_407_616, 105),
    ("tost_resnet_152", C10, 58_156_618, 58_005_184, 156),
    ("cifar_jumpresnet_18", C10, 12_402_250, 12_379_840 + 5_120, None),  # convolutions and the output layer
    ("cifar_jumpresnet_34", C10, 23_640_138, 23_602_880 + 5_120, None),
    ("tost_oresnet_20", C10, 272_474, 270_896, 22),
    ("tost_oresnet_32", C10, 466_906, 464_432, 34),
    ("tost_oresnet_44", C10, 661_338, 657_968, 46),
    ("tost_oresnet_56", C10, 869_530, None, None),
    ("tost_oresnet_110", C10, 1_704_154, None, None),
    ("tost_resnets_20", C10, 269_722, 268_336, 20),
    ("tost_resnets_44", C10, 658_586, 655_408, 44),
    ("tost_resnets_56", C10, 853_018, 848_944, 56),
    ("tost_vgg_16_bn", C10, 14_728_266, 14_715_584, 14),
    ("tost_fc1", M10, 266_610, 266_200, 3),
    ("tost_fc1", C10, 953_010, None, 3),
    ("tost_fc1", C100, 962_100, None, 3),
    ("tost_lenet5_mnist", M10, 3_317_450, 3_316_800, 5),
    ("tost_lenet5_cifar", C10, 62_006, None, 5),
    ("tost_lenet5_cifar", C100, 69_656, None, 5),
    ("tost_alexnet", M10, 57_022_154, None, 8),
    ("tost_alexnet", C10, 57_023_306, None, 8),
    ("tost_alexnet", C100, 57_392_036, None, 8),
    ("tost_lth_vgg_16", C10, 134_301_514, None, 16),
    ("tost_lth_vgg_16", C100, 134_670_244, None, 16),
    ("imagenet_resnet_18", (1000, MNIST), 11_683_240, None, 21),
    ("imagenet_resnet_18", C100, 11_227_812, None, 21),
    ("tost_lth_resnet_18", C10, 11_173_962, 11_164_352, 21),
    ("tost_lth_densenet_121", C10, 6_964_106, 6_880_448, 121),
    # Zagoruyko & Komodakis 2016, table 1 (36.5M, 11.0M, 8.9M)
    ("cifar_wideresnet_28_10", C10, 36_479_194, None, None),
    ("cifar_wideresnet_16_8", C10, 10_961_370, None, None),
    ("cifar_wideresnet_40_4", C10, 8_949_210, None, None),
]
# The stem; the convolutions of three segments (one of each pair's first is on half the channels); projections; output.
_SEGMENT = 32 * 32 * 16 * 9 * 16
CIFAR_RESNET_20 = 32 * 32 * 27 * 16 + 6 * _SEGMENT + 2 * (_SEGMENT // 2 + 5 * _SEGMENT) + 2 * 16 * 16 * 16 * 32 + 640
# Multiply-adds of one image, as published or as counted by hand from the papers' tables.
MULTIPLY_ADDS = [
    ("mnist_lenet_300_100", M10, 266_200),
    ("imagenet_resnet_18", I1000, 1_814_073_344),
    ("imagenet_resnet_50", I1000, 4_089_184_256),
    ("torchvision_vgg16", I1000, 15_470_264_320),
    ("cifar_resnet_20", C10, CIFAR_RESNET_20),
]


def hparams_of(name: str) -> ModelHparams:
    return ModelHparams.of(recipe(name))


def size(name: str, data: Data) -> Size:
    outputs, shape = data
    return measure(hparams_of(name), outputs=outputs, inputs=Inputs(shape))


@pytest.mark.parametrize(("name", "data", "parameters", "prunable", "tensors"), TABLE)
def test_sizes_are_those_of_the_tables(
    name: str, data: Data, parameters: int, prunable: int | None, tensors: int | None
) -> None:
    found = size(name, data)

    assert found.parameters == parameters
    assert prunable in (None, found.prunable)
    assert tensors in (None, found.prunable_tensors)


@pytest.mark.parametrize(("name", "data", "multiply_adds"), MULTIPLY_ADDS)
def test_multiply_adds_are_the_published_ones(name: str, data: Data, multiply_adds: int) -> None:
    assert size(name, data).multiply_adds == multiply_adds


def test_a_200_way_head_instead_of_1000_outputs() -> None:
    resnet = measure(ModelHparams(model_name="tinyimagenet_resnet_18"), outputs=200, inputs=Inputs(TINY))

    assert (resnet.parameters, resnet.prunable) == (11_279_112, 11_269_312)


SHAPE_OF = {
    "digits": (1, 8, 8),
    "mnist": MNIST,
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "svhn": CIFAR,
    "tinyimagenet": TINY,
    "tinyimagenet2": TINY,
    "imagenet": IMAGENET,
}
OPEN = ("timm_NAME", "hf_TYPE")
"""Names of families whose networks other libraries name."""
ALL_NAMES = [
    name
    for entry in recipes()
    for name in entry.names
    if recipe(name).get("dataset_name") in SHAPE_OF and name not in OPEN
]


def shape_of(name: str) -> tuple[int, int, int]:
    return SHAPE_OF[recipe(name)["dataset_name"]]


def assert_logits_and_gradients(model: nn.Module, images: torch.Tensor, outputs: int) -> None:
    """Assert that every parameter has a gradient, and that all is finite where there are values (not on meta)."""
    has_values, number = not images.is_meta, len(images)
    logits = model(images)
    torch.nn.functional.cross_entropy(logits, torch.arange(number, device=images.device)).backward()

    assert logits.shape == (number, outputs)
    assert not has_values or logits.isfinite().all()
    # A sum is finite only where all that is summed is.
    without = [n for n, p in model.named_parameters() if p.grad is None or (has_values and not p.grad.sum().isfinite())]
    assert without == []


def cheap_side(name: str) -> int:
    """Return a side of images that cost less and use the same layers; VGG networks for 64 x 64 need just these."""
    height = shape_of(name)[1]
    return min(height, 64 if height > 64 or "vgg" in name else 32)


ENDS_IN_A_PIXEL = ("tinyimagenet_resnet", "tost_lth_densenet", "tost_lt_densenet", "pruningwrapper")
"""Of cheap images, the last layers of these networks see a single pixel, and batchnorm needs two values."""
INITIAL_VALUES = ("model_init", "linear_init", "bias_init", "batchnorm_init")


def architecture_of(name: str) -> ModelHparams:
    """Return the network of a recipe with the initial values that all have by default."""
    return ModelHparams.of({key: value for key, value in recipe(name).items() if key not in INITIAL_VALUES})


@functools.cache
def assert_finite_step(hparams: ModelHparams, outputs: int, shape: tuple[int, int, int], count: int) -> None:
    """Assert logits and gradients of a step on images: once for an architecture, however many names it has."""
    with CheapDraws():
        model = build_model(hparams, outputs=outputs, inputs=Inputs(shape), seed_keys=(0,))
    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    assert_logits_and_gradients(model, images, outputs)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_listed_network_gives_finite_logits_and_gradients(name: str) -> None:
    hparams, side = architecture_of(name), cheap_side(name)
    count = 2 if name.startswith(ENDS_IN_A_PIXEL) else 1

    assert_finite_step(hparams, hparams.outputs or 7, (shape_of(name)[0], side, side), count)


@pytest.mark.parametrize("name", [name for name in ALL_NAMES if cheap_side(name) < shape_of(name)[1]])
def test_every_listed_network_takes_the_large_images_of_its_dataset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def scale_and_shift(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        return x * norm.weight[:, None, None] + norm.bias[:, None, None]

    monkeypatch.setattr(nn.BatchNorm2d, "forward", scale_and_shift)  # the same shapes; slow on the meta device as it is
    hparams, shape = hparams_of(name), shape_of(name)
    outputs = hparams.outputs or 7
    with torch.device("meta"):
        assert_logits_and_gradients(construct(hparams, outputs, Inputs(shape)), torch.empty(2, *shape), outputs)


REPRESENTATIVES = [  # of every kind of layer, and of all initial values of recipes
    "cifar_vgg_11",
    "synflow_vgg_11",
    "grasp_vgg_11",
    "cifar_wideresnet_10_1",
    "cifar_modifiedresnet_18_8",
    "cifar_resnet_a_8",
    "cifar_jumpresnet_18_8",
    "cifar_bottleneckresnet_8",
    "tinyimagenet_resnet_18_8",
    "tinyimagenet_modifiedresnet_50_8",
    "tinyimagenet_wideresnet_50_8",
    "tinyimagenet_vgg_11",
    "imagenet_resnet_50_8",
    "synflow_fc",
    "synflow_conv",
    "tost_lenet5_mnist",
    "tost_lenet5_cifar",
    "torchvision_squeezenet1_1",
    "phew_vgg_11_bn",
    "synflow_resnet_18",
    "phew_resnet_18",
    "tost_resnets_20",
    "vit_6_64_4",
]


def test_representatives_have_the_initial_values_of_all_recipes() -> None:
    def initial_values(names: list[str]) -> set[tuple[object, ...]]:
        return {tuple(getattr(hparams_of(name), key) for key in INITIAL_VALUES) for name in names}

    assert initial_values(REPRESENTATIVES) == initial_values(ALL_NAMES)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_a_step_gives_almost_every_parameter_a_gradient(name: str) -> None:
    hparams = hparams_of(name)
    shape = SHAPE_OF[recipe(name)["dataset_name"]]
    if shape == IMAGENET:
        shape = (3, 64, 64)
    model = build_model(hparams, outputs=5, inputs=Inputs(shape), seed_keys=(0,))
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))

    loss = torch.nn.functional.cross_entropy(model(x), torch.arange(4))
    loss.backward()

    assert loss.isfinite()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert still == []
    assert sum(p.grad is not None and bool(p.grad.any()) for p in model.parameters()) > 0.9 * len(
        list(model.parameters())
    )
