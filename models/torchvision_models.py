"""torchvision's classification networks by their names there (`torchvision_vgg16_bn`), without pretrained weights."""

from __future__ import annotations

from torch import nn

from foundations.errors import UsageError
from models.dropout import make_repeatable
from models.family import Plan

_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def torchvision_model(plan: Plan) -> nn.Module:
    """Build `torchvision_NAME`, without auxiliary heads and with dropout that resumes.

    Raises: UsageError for images that are not in colour.
    """
    from torchvision import models

    name = plan.parts.member
    if plan.channels != 3:
        raise UsageError(f"torchvision_{name} takes images of 3 channels, not {plan.channels}.", "model_name")
    without = {"aux_logits": False, "init_weights": True} if name in _WITH_AUXILIARY_HEADS else {}
    model: nn.Module = models.get_model(name, weights=None, num_classes=plan.outputs, **without)
    make_repeatable(model)
    return model
