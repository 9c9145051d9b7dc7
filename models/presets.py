"""Recipes of papers whose network is one of ours but for initialization, bias, data or training.

Their names are for `--default_hparams` alone: the hyperparameters that they set stand in an address, the name does not.
"""

from __future__ import annotations

from models import recipes
from models.family import Preset

_N = r"[1-9]\d*"
_D = rf"(?P<depth>{_N})"
_SYNFLOW, _PHEW, _GRASP, _TOST = "Synaptic-Flow", "PHEW", "GraSP", "ToST"

PRESETS = (
    Preset(
        spelling="synflow_vgg_D_bn",
        pattern=f"synflow_vgg_{_D}_bn",
        model="cifar_vgg_{depth}",
        source=_SYNFLOW,
        recipe=recipes.SYNFLOW_CIFAR,
        examples=("synflow_vgg_11_bn", "synflow_vgg_16_bn", "synflow_vgg_19_bn"),
    ),
    Preset(
        spelling="synflow_vgg_D",
        pattern=f"synflow_vgg_{_D}",
        model="cifar_vgg_{depth}",
        source=_SYNFLOW,
        recipe={**recipes.SYNFLOW_CIFAR, "no_batchnorm": True},
        examples=("synflow_vgg_11", "synflow_vgg_16", "synflow_vgg_19"),
    ),
    Preset(
        spelling="synflow_resnet_D",
        pattern=r"synflow_resnet_(?P<depth>20|32|44|56|110|1202)",
        model="cifar_resnet_{depth}",
        source=_SYNFLOW,
        recipe=recipes.SYNFLOW_CIFAR,
        examples=("synflow_resnet_20", "synflow_resnet_32", "synflow_resnet_56", "synflow_resnet_110"),
    ),
    Preset(
        spelling="synflow_wide_resnet_D",
        pattern=r"synflow_wide_resnet_(?P<depth>20|32|44|56|110|1202)",
        model="cifar_resnet_{depth}_32",
        source=_SYNFLOW,
        recipe=recipes.SYNFLOW_CIFAR,
        examples=("synflow_wide_resnet_20", "synflow_wide_resnet_32"),
    ),
    Preset(
        spelling="synflow_resnet_18",
        pattern=r"synflow_resnet_(?P<depth>18|34|50|101|152)",
        model="cifar_modifiedresnet_{depth}",
        source=_SYNFLOW,
        recipe=recipes.SYNFLOW_CIFAR_RESNET_18,
        examples=("synflow_resnet_18",),
    ),
    Preset(
        spelling="synflow_tinyimagenet_resnet_D",
        pattern=f"synflow_tinyimagenet_resnet_{_D}",
        model="tinyimagenet_modifiedresnet_{depth}",
        source=_SYNFLOW,
        recipe={**recipes.SYNFLOW_TINY, **recipes.SYNFLOW_TINY_RESNET_INIT},
        examples=("synflow_tinyimagenet_resnet_18", "synflow_tinyimagenet_resnet_50"),
    ),
    Preset(
        spelling="synflow_tinyimagenet_vgg_D_bn",
        pattern=f"synflow_tinyimagenet_vgg_{_D}_bn",
        model="tinyimagenet_vgg_{depth}",
        source=_SYNFLOW,
        recipe={**recipes.SYNFLOW_TINY, **recipes.SYNFLOW_TINY_VGG_INIT},
        examples=("synflow_tinyimagenet_vgg_16_bn",),
    ),
    Preset(
        spelling="synflow_tinyimagenet_vgg_D",
        pattern=f"synflow_tinyimagenet_vgg_{_D}",
        model="tinyimagenet_vgg_{depth}",
        source=_SYNFLOW,
        recipe={**recipes.SYNFLOW_TINY, **recipes.SYNFLOW_TINY_VGG_INIT, "no_batchnorm": True},
        examples=("synflow_tinyimagenet_vgg_16",),
    ),
    Preset(
        spelling="phew_vgg_D_bn",
        pattern=f"phew_vgg_{_D}_bn",
        model="cifar_vgg_{depth}",
        source=_PHEW,
        recipe=recipes.PHEW_VGG,
        examples=("phew_vgg_11_bn", "phew_vgg_16_bn", "phew_vgg_19_bn"),
    ),
    Preset(
        spelling="phew_vgg_D",
        pattern=f"phew_vgg_{_D}",
        model="cifar_vgg_{depth}",
        source=_PHEW,
        recipe={**recipes.PHEW_VGG, "no_batchnorm": True},
        examples=("phew_vgg_11", "phew_vgg_16", "phew_vgg_19"),
    ),
    Preset(
        spelling="phew_resnet_D",
        pattern=r"phew_resnet_(?P<depth>20|32)",
        model="cifar_resnet_{depth}",
        source=_PHEW,
        recipe=recipes.PHEW_RESNET,
        examples=("phew_resnet_20", "phew_resnet_32"),
    ),
    Preset(
        spelling="phew_wide_resnet_20",
        pattern=r"phew_wide_resnet_20",
        model="cifar_resnet_20_32",
        source=_PHEW,
        recipe=recipes.PHEW_RESNET,
        examples=("phew_wide_resnet_20",),
    ),
    Preset(
        spelling="phew_resnet_18",
        pattern=r"phew_resnet_(?P<depth>18|34|50|101|152)",
        model="cifar_modifiedresnet_{depth}",
        source=_PHEW,
        recipe=recipes.PHEW_MODIFIED_RESNET,
        examples=("phew_resnet_18", "phew_resnet_34", "phew_resnet_50"),
    ),
    Preset(
        spelling="grasp_vgg_D",
        pattern=f"grasp_vgg_{_D}",
        model="cifar_vgg_{depth}",
        source=_GRASP,
        recipe=recipes.GRASP_VGG,
        examples=("grasp_vgg_11", "grasp_vgg_16", "grasp_vgg_19"),
    ),
    Preset(
        spelling="grasp_resnet_D",
        pattern=f"grasp_resnet_{_D}",
        model="cifar_resnet_{depth}_32",
        source=_GRASP,
        recipe=recipes.GRASP,
        examples=("grasp_resnet_20", "grasp_resnet_32", "grasp_resnet_56"),
    ),
    Preset(
        spelling="grasp_imagenet_resnet_50",
        pattern="grasp_imagenet_resnet_50",
        model="imagenet_resnet_50",
        source=_GRASP,
        recipe=recipes.GRASP_IMAGENET,
        examples=("grasp_imagenet_resnet_50",),
    ),
    Preset(
        spelling="tost_resnet_D",
        pattern=r"tost_resnet_(?P<depth>18|34|50|101|152)",
        model="cifar_modifiedresnet_{depth}",
        source=_TOST,
        recipe=recipes.TOST,
        examples=("tost_resnet_18", "tost_resnet_34", "tost_resnet_50", "tost_resnet_101"),
    ),
    Preset(
        spelling="tost_tinyimagenet_resnet_D",
        pattern=r"tost_tinyimagenet_resnet_(?P<depth>18|34|50|101|152)",
        model="tinyimagenet_modifiedresnet_{depth}",
        source=_TOST,
        recipe=recipes.TOST_TINY,
        examples=("tost_tinyimagenet_resnet_18", "tost_tinyimagenet_resnet_50"),
    ),
    Preset(
        spelling="tost_oresnet_D",
        pattern=r"tost_oresnet_(?P<depth>20|32|44)",
        model="cifar_resnet_{depth}",
        source=_TOST,
        recipe=recipes.TOST_ORESNET,
        examples=("tost_oresnet_20", "tost_oresnet_32", "tost_oresnet_44"),
    ),
    Preset(
        spelling="tost_oresnet_56",
        pattern=r"tost_oresnet_(?P<depth>56|110)",
        model="cifar_bottleneckresnet_{depth}",
        source=_TOST,
        recipe=recipes.TOST_ORESNET,
        examples=("tost_oresnet_56", "tost_oresnet_110"),
    ),
    Preset(
        spelling="tost_resnets_D",
        pattern=r"tost_resnets_(?P<depth>20|44|56)",
        model="cifar_resnet_a_{depth}",
        source=_TOST,
        recipe=recipes.TOST_RESNET_A,
        examples=("tost_resnets_20", "tost_resnets_44", "tost_resnets_56"),
    ),
    Preset(
        spelling="tost_fc1",
        pattern="tost_fc1",
        model="mnist_lenet_300_100",
        source=_TOST,
        recipe=recipes.TOST_LTH,
        examples=("tost_fc1",),
    ),
)
