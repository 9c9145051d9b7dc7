"""Turning off dropout that a network calls as a function, such as F.dropout(x), which drops in eval mode too."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_IDENTITIES = frozenset(
    (
        *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
        *(torch.dropout, torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout),
        *(torch.dropout_, torch.alpha_dropout_, torch.feature_dropout_, torch.feature_alpha_dropout_),
    )
)
"""Functions that return their first argument where nothing is dropped."""
_WATCHED = _IDENTITIES | {torch.native_dropout, F.scaled_dot_product_attention, F.multi_head_attention_forward}
_DROPOUT_P = 4
"""The place of dropout_p among the arguments of scaled_dot_product_attention."""


class NothingDropped(TorchFunctionMode):
    """Makes the dropout functions of torch drop nothing inside the block, whatever their arguments.

    Does not reach masks that a network draws itself, with torch.rand for instance.
    """

    def __torch_function__(
        self, func: Callable[..., Any], _types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch without its dropout."""
        if func not in _WATCHED:  # nearly always: thousands of calls a pass, attributes of tensors among them
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = dict(kwargs or {})
        if func in _IDENTITIES:
            return args[0] if args else kwargs["input"]
        if func is torch.native_dropout:
            kept = args[0] if args else kwargs["input"]
            return kept, torch.ones_like(kept, dtype=torch.bool)
        if func is F.scaled_dot_product_attention:
            if len(args) > _DROPOUT_P:
                args = (*args[:_DROPOUT_P], 0.0, *args[_DROPOUT_P + 1 :])
            else:
                kwargs["dropout_p"] = 0.0
        elif func is F.multi_head_attention_forward:
            bound = inspect.signature(func).bind(*args, **kwargs)
            bound.arguments["dropout_p"] = 0.0
            args, kwargs = bound.args, bound.kwargs
        return func(*args, **kwargs)
