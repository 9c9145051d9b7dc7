"""timm's networks by their names there (`timm_vit_tiny_patch16_224`), without pretrained weights."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations.errors import EnvironmentFailure, UsageError, choose_from
from models.family import Family, NetworkSpec
from models.hparams import ModelHparams
from models.library_errors import built_by_library

if TYPE_CHECKING:
    from torch import nn

_PREFIX = "timm_"

_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
"""The declaration of a network in timm's files."""


def timm_model(spec: NetworkSpec) -> nn.Module:
    """Build `timm_NAME` for the dataset's channels and, where the network is for one size of images, for its size.

    Raises: EnvironmentFailure if timm is not installed; UsageError for a name that it does not have, or for images that
    the network is not for.
    """
    from models.dropout import draws_in_functions, make_repeatable, seed_draws

    check_name(spec.hparams)
    model = _created(spec)
    make_repeatable(model)
    if draws_in_functions(model):
        seed_draws(model)
    return model


def check_name(hparams: ModelHparams) -> None:
    """Check a name against the names of the installed timm, if there is one. Raises: UsageError with close names."""
    name, names = hparams.model_name.removeprefix(_PREFIX), _names()
    if not names or name in names:
        return
    if name.partition(".")[0] in names:
        what = f"'timm_{name}' names pretrained weights; leave out '.{name.partition('.')[2]}', and import the weights."
        raise UsageError(what, "model_name")
    raise UsageError(f"timm has no network '{name}'{choose_from(name, ('timm.list_models()',), names)}", "model_name")


@functools.cache
def _names() -> frozenset[str]:
    """Return the names of the networks of the installed timm; none if it is not installed.

    They are read from its files: importing it takes seconds, and torch.
    """
    found = importlib.util.find_spec("timm")
    files = [file for folder in (found and found.submodule_search_locations) or () for file in _files(Path(folder))]
    return frozenset(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8")))


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "models").glob("*.py"))


def _created(spec: NetworkSpec) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        reason = f"timm_{spec.member} needs timm: pip install 'open_prune[timm]'."
        raise EnvironmentFailure(reason) from error
    size: dict[str, Any] = {}
    known = timm.models.get_pretrained_cfg(spec.member)
    if getattr(known, "fixed_input_size", False):
        size = {"img_size": spec.input_shape[1:]}
    with built_by_library(f"timm_{spec.member} cannot be built for images of {spec.inputs}", "model_name"):
        made: nn.Module = timm.create_model(
            spec.member, pretrained=False, num_classes=spec.outputs, in_chans=spec.channels, **size
        )
    return made


TIMM = Family(
    spelling="timm_NAME",
    pattern=r"timm_(?P<member>[a-zA-Z0-9_.]+)",
    builder=timm_model,
    source="timm",
    dropout=True,
    options=frozenset(),
    check=check_name,
)
