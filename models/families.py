"""All families of networks. A new one is a line here and a file beside."""

from __future__ import annotations

from models import recipes
from models.family import Family
from models.torchvision_names import NAMES as TORCHVISION_NAMES

_N = r"[1-9]\d*"
_DEPTH = rf"_(?P<depth>{_N})"
_WIDTH = rf"(?:_(?P<width>{_N}))?"
_UNITS = rf"(?P<units>(?:_{_N})+)"
_ALL_OPTIONS = frozenset({"activation", "no_batchnorm", "no_conv_bias"})


def _one_of(*depths: int) -> tuple[frozenset[int], str]:
    return frozenset(depths), f"D is {', '.join(map(str, depths[:-1]))} or {depths[-1]}"


_VGG_DEPTHS, _VGG_RULE = _one_of(11, 13, 16, 19)
_RESNET_DEPTHS, _RESNET_RULE = _one_of(18, 34, 50, 101, 152, 200)
_WIDE_DEPTHS, _WIDE_RULE = _one_of(50, 101)
_JUMP_DEPTHS, _JUMP_RULE = _one_of(18, 34)
_6N_PLUS_2 = "D is 8, 14, 20, 26, 32, ... (6n + 2)"
_6N_PLUS_4 = "D is 10, 16, 22, 28, 34, 40, ... (6n + 4)"


def _is_6n_plus_2(depth: int) -> bool:
    return depth > 2 and depth % 6 == 2


def _is_6n_plus_4(depth: int) -> bool:
    return depth > 4 and depth % 6 == 4


FAMILIES = (
    Family(
        spelling="mnist_lenet_N[_M...]",
        pattern=f"mnist_lenet{_UNITS}",
        builder="models.lenet:lenet",
        source="OpenLTH",
        recipe=recipes.LENET,
        examples=("mnist_lenet_300_100", "mnist_lenet_500_500"),
        batchnorm=False,
    ),
    Family(
        spelling="digits_lenet_N[_M...]",
        pattern=f"digits_lenet{_UNITS}",
        builder="models.lenet:lenet",
        source="mnist_lenet for the 8x8 digits",
        recipe=recipes.DIGITS,
        examples=("digits_lenet_40_20",),
        batchnorm=False,
    ),
    Family(
        spelling="cifar_resnet_D[_W]",
        pattern=f"cifar_resnet{_DEPTH}{_WIDTH}",
        builder="models.cifar_resnet:CifarResNet",
        source="OpenLTH",
        recipe=recipes.CIFAR,
        examples=(
            "cifar_resnet_20",
            "cifar_resnet_8",
            "cifar_resnet_14",
            "cifar_resnet_32",
            "cifar_resnet_44",
            "cifar_resnet_56",
            "cifar_resnet_110",
            "cifar_resnet_20_32",
            "cifar_resnet_32_32",
            "cifar_resnet_20_64",
        ),
        width=16,
        possible=_is_6n_plus_2,
        rule=_6N_PLUS_2,
    ),
    Family(
        spelling="digits_resnet_D[_W]",
        pattern=f"digits_resnet{_DEPTH}{_WIDTH}",
        builder="models.cifar_resnet:CifarResNet",
        source="cifar_resnet for the 8x8 digits",
        recipe=recipes.DIGITS,
        examples=("digits_resnet_8", "digits_resnet_14"),
        width=16,
        possible=_is_6n_plus_2,
        rule=_6N_PLUS_2,
    ),
    Family(
        spelling="cifar_vgg_D",
        pattern=f"cifar_vgg{_DEPTH}",
        builder="models.vgg:CifarVGG",
        source="OpenLTH",
        recipe=recipes.CIFAR,
        examples=("cifar_vgg_16", "cifar_vgg_11", "cifar_vgg_13", "cifar_vgg_19"),
        possible=_VGG_DEPTHS.__contains__,
        rule=_VGG_RULE,
        options=_ALL_OPTIONS,
    ),
    Family(
        spelling="cifar_wideresnet_D_K",
        pattern=f"cifar_wideresnet{_DEPTH}_(?P<width>{_N})",
        builder="models.wideresnet:WideResNet",
        source="Zagoruyko & Komodakis 2016",
        recipe=recipes.WIDERESNET,
        examples=("cifar_wideresnet_28_10", "cifar_wideresnet_16_8", "cifar_wideresnet_40_4"),
        possible=_is_6n_plus_4,
        rule=_6N_PLUS_4,
    ),
    Family(
        spelling="cifar_modifiedresnet_D[_W]",
        pattern=f"cifar_modifiedresnet{_DEPTH}{_WIDTH}",
        builder="models.imagenet_resnet:modifiedresnet",
        source="ResNet with a 3x3 stem (PHEW, ToST, Synaptic-Flow)",
        recipe=recipes.CIFAR,
        examples=(
            "cifar_modifiedresnet_18",
            "cifar_modifiedresnet_34",
            "cifar_modifiedresnet_50",
            "cifar_modifiedresnet_101",
            "cifar_modifiedresnet_152",
        ),
        width=64,
        possible=_RESNET_DEPTHS.__contains__,
        rule=_RESNET_RULE,
    ),
    Family(
        spelling="cifar_jumpresnet_D[_W]",
        pattern=f"cifar_jumpresnet{_DEPTH}{_WIDTH}",
        builder="models.imagenet_resnet:cifar_jumpresnet",
        source="ToST's resnet_modified: 1x1 skips around each convolution",
        recipe=recipes.TOST,
        examples=("cifar_jumpresnet_18", "cifar_jumpresnet_34"),
        width=64,
        possible=_JUMP_DEPTHS.__contains__,
        rule=_JUMP_RULE,
    ),
    Family(
        spelling="cifar_resnet_a_D[_W]",
        pattern=f"cifar_resnet_a{_DEPTH}{_WIDTH}",
        builder="models.cifar_resnet:cifar_resnet_a",
        source="He et al. 2016 (option A); ToST's resnet20s",
        recipe=recipes.CIFAR,
        examples=("cifar_resnet_a_20", "cifar_resnet_a_44", "cifar_resnet_a_56"),
        width=16,
        possible=_is_6n_plus_2,
        rule=_6N_PLUS_2,
    ),
    Family(
        spelling="cifar_bottleneckresnet_D[_W]",
        pattern=f"cifar_bottleneckresnet{_DEPTH}{_WIDTH}",
        builder="models.cifar_resnet:cifar_bottleneckresnet",
        source="ToST's oresnet of depth 54 and more",
        recipe=recipes.CIFAR,
        examples=("cifar_bottleneckresnet_56", "cifar_bottleneckresnet_110"),
        width=16,
        possible=_is_6n_plus_2,
        rule=_6N_PLUS_2,
    ),
    Family(
        spelling="tinyimagenet_resnet_D[_W]",
        pattern=f"tinyimagenet_resnet{_DEPTH}{_WIDTH}",
        builder="models.imagenet_resnet:imagenet_resnet",
        source="Missing the Mark",
        recipe=recipes.TINYIMAGENET,
        examples=("tinyimagenet_resnet_18", "tinyimagenet_resnet_50"),
        width=64,
        possible=_RESNET_DEPTHS.__contains__,
        rule=_RESNET_RULE,
    ),
    Family(
        spelling="tinyimagenet_modifiedresnet_D[_W]",
        pattern=f"tinyimagenet_modifiedresnet{_DEPTH}{_WIDTH}",
        builder="models.imagenet_resnet:modifiedresnet",
        source="Missing the Mark",
        recipe=recipes.TINYIMAGENET,
        examples=("tinyimagenet_modifiedresnet_18", "tinyimagenet_modifiedresnet_50"),
        width=64,
        possible=_RESNET_DEPTHS.__contains__,
        rule=_RESNET_RULE,
    ),
    Family(
        spelling="tinyimagenet_wideresnet_D[_W]",
        pattern=f"tinyimagenet_wideresnet{_DEPTH}{_WIDTH}",
        builder="models.imagenet_resnet:tinyimagenet_wideresnet",
        source="Synaptic-Flow",
        recipe={**recipes.SYNFLOW_TINY, **recipes.SYNFLOW_TINY_RESNET_INIT},
        examples=("tinyimagenet_wideresnet_50", "tinyimagenet_wideresnet_101"),
        width=64,
        possible=_WIDE_DEPTHS.__contains__,
        rule=_WIDE_RULE,
    ),
    Family(
        spelling="tinyimagenet_vgg_D",
        pattern=f"tinyimagenet_vgg{_DEPTH}",
        builder="models.vgg:TinyImageNetVGG",
        source="Synaptic-Flow",
        recipe={**recipes.SYNFLOW_TINY, **recipes.SYNFLOW_TINY_VGG_INIT},
        examples=("tinyimagenet_vgg_11", "tinyimagenet_vgg_13", "tinyimagenet_vgg_16", "tinyimagenet_vgg_19"),
        possible=_VGG_DEPTHS.__contains__,
        rule=_VGG_RULE,
        options=_ALL_OPTIONS,
    ),
    Family(
        spelling="imagenet_resnet_D[_W]",
        pattern=f"imagenet_resnet{_DEPTH}{_WIDTH}",
        builder="models.imagenet_resnet:imagenet_resnet",
        source="OpenLTH",
        recipe=recipes.IMAGENET,
        examples=(
            "imagenet_resnet_50",
            "imagenet_resnet_18",
            "imagenet_resnet_34",
            "imagenet_resnet_101",
            "imagenet_resnet_152",
            "imagenet_resnet_200",
            "imagenet_resnet_18_128",
            "imagenet_resnet_50_128",
        ),
        width=64,
        possible=_RESNET_DEPTHS.__contains__,
        rule=_RESNET_RULE,
    ),
    Family(
        spelling="imagenet_wideresnet_D[_W]",
        pattern=f"imagenet_wideresnet{_DEPTH}{_WIDTH}",
        builder="models.imagenet_resnet:imagenet_wideresnet",
        source="Zagoruyko & Komodakis 2016; Synaptic-Flow",
        recipe=recipes.TORCHVISION,
        examples=("imagenet_wideresnet_50", "imagenet_wideresnet_101"),
        width=64,
        possible=_WIDE_DEPTHS.__contains__,
        rule=_WIDE_RULE,
    ),
    Family(
        spelling="synflow_fc",
        pattern="synflow_fc",
        builder="models.lenet:synflow_fc",
        source="Synaptic-Flow",
        recipe=recipes.SYNFLOW_SMALL,
        examples=("synflow_fc",),
        batchnorm=False,
    ),
    Family(
        spelling="synflow_conv",
        pattern="synflow_conv",
        builder="models.convnets:synflow_conv",
        source="Synaptic-Flow",
        recipe=recipes.SYNFLOW_SMALL,
        examples=("synflow_conv",),
        batchnorm=False,
    ),
    Family(
        spelling="tost_lenet5_mnist",
        pattern="tost_lenet5_mnist",
        builder="models.convnets:tost_lenet5_mnist",
        source="ToST",
        recipe=recipes.TOST_LTH,
        examples=("tost_lenet5_mnist",),
        batchnorm=False,
    ),
    Family(
        spelling="tost_lenet5_cifar",
        pattern="tost_lenet5_cifar",
        builder="models.convnets:tost_lenet5_cifar",
        source="ToST",
        recipe=recipes.TOST_LTH_CIFAR,
        examples=("tost_lenet5_cifar",),
        batchnorm=False,
    ),
    Family(
        spelling="tost_alexnet",
        pattern="tost_alexnet",
        builder="models.convnets:tost_alexnet",
        source="ToST",
        recipe=recipes.TOST_LTH_CIFAR,
        examples=("tost_alexnet",),
        batchnorm=False,
    ),
    Family(
        spelling="torchvision_NAME",
        pattern="torchvision_(?P<member>[a-z0-9_]+)",
        builder="models.torchvision_models:torchvision_model",
        source="torchvision",
        recipe=recipes.TORCHVISION,
        examples=("torchvision_vgg16", "torchvision_vgg16_bn", "torchvision_densenet121", "torchvision_mobilenet_v2"),
        members=TORCHVISION_NAMES,
        options=frozenset(),
    ),
)
