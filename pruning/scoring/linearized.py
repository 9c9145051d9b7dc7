"""Synaptic flow through transformers: the linearization under which SynFlow's scores are conserved.

SynFlow's scores are conserved, that is, what flows into a unit flows out of it, where every operation f between weights
is homogeneous on values that are not negative: f(cx) = c f(x) for c > 0. In a transformer some operations are not, so
SynFlow, SynFlow-L2 and others that score by `Scoring.scores_of_flow` compute instead, with all parameters absolute:

    layer norm, RMS norm     x |g| + |b|: the division by the deviation, and the subtraction of the mean, are left out
    GELU, SiLU               x, which these functions approach for large x
    a product with them      sqrt(x y): the two factors of a gated layer (SwiGLU) carry the flow in equal parts
    attention                |q_i| + mean of (|k_j| + v_j) over the tokens j that i sees: q, k and v carry flow alike
    rotary positions         no turn, in the networks of `models`
    embeddings               the example of ones enters behind them (`entering_behind_embeddings`)

Attention written with a softmax of the network's own is left as it is; so are networks without layer or RMS norm, such
as convolutional ones, whose activations stay those that they train with.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.networks.attention import Rotary

GATES: tuple[Any, ...] = (F.gelu, F.silu, torch._C._nn.silu, torch._C._nn.gelu)
"""The activations that the linearized form replaces by the identity."""
_PRODUCTS: tuple[Any, ...] = (torch.mul, torch.multiply, Tensor.mul, Tensor.multiply, Tensor.__mul__, Tensor.__rmul__)
_LAYER_NORMS: tuple[Any, ...] = (F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm)


def is_linearized(network: nn.Module) -> bool:
    """Return whether flow is scored in the linearized form of a network: it has layer or RMS norm."""
    return any("LayerNorm" in type(each).__name__ or "RMSNorm" in type(each).__name__ for each in network.modules())


@contextlib.contextmanager
def linearized(network: nn.Module) -> Iterator[None]:
    """Compute in the block the linearized form of a network, if `is_linearized`."""
    if not is_linearized(network):
        yield
        return
    with contextlib.ExitStack() as stack:
        for module in network.modules():
            if "RMSNorm" in type(module).__name__ and not isinstance(module, nn.RMSNorm):  # written out elsewhere
                stack.enter_context(_returning(module, _scaled_only))
            elif isinstance(module, Rotary):
                stack.enter_context(_returning(module, lambda _, x: x))
        stack.enter_context(_Linearized())
        yield


@contextlib.contextmanager
def _returning(module: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]) -> Iterator[None]:
    """Let a module return a function of itself and its first argument inside the block."""
    handle = module.register_forward_hook(lambda own, given, _output: function(own, given[0]))
    try:
        yield
    finally:
        handle.remove()


def _scaled_only(norm: nn.Module, x: Tensor) -> Tensor:
    """Return x w: an RMS norm without its division."""
    weight = norm._parameters.get("weight")
    return x if weight is None else x * weight


class _Linearized(TorchFunctionMode):
    """Replaces the calls of a forward pass that are not homogeneous. Gates are kept alive, so that ids stay theirs."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in GATES:
            gate: Tensor = (args[0] if args else kwargs["input"]).clone()
            self._gates[id(gate)] = gate
            return gate
        if func in _PRODUCTS and self._is_gated(args):
            return _geometric_mean(*args)
        if func in _LAYER_NORMS:
            return _scaled_and_shifted(func, *args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return _attention_of_torch(*args, **kwargs)
        return func(*args, **kwargs)

    def _is_gated(self, args: tuple[Any, ...]) -> bool:
        """Return whether a product is that of a gate and another tensor of its shape; parameters do not count."""
        if not all(isinstance(each, Tensor) and not isinstance(each, nn.Parameter) for each in args):
            return False
        return args[0].shape == args[1].shape and any(id(each) in self._gates for each in args)


def _geometric_mean(x: Tensor, y: Tensor) -> Tensor:
    """Return sqrt(x y), and 0 without a gradient where it is 0. Any shape, float."""
    product = x * y
    flows = product > 0
    return torch.where(flows, product, 1.0).sqrt() * flows


def _scaled_and_shifted(
    func: Callable[..., Any], x: Tensor, _shape: Any, weight: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """Return x w + b, by the arguments of `F.layer_norm` and `F.rms_norm`."""
    has_bias = func in (F.layer_norm, torch.layer_norm)
    bias = kwargs.get("bias", args[0] if args and has_bias else None)
    weight = kwargs.get("weight", weight)
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    _dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> Tensor:
    """Return |q_i| + mean of |k_j| + v_j over the tokens j that i sees, (..., T, width), by the arguments of attention.

    Where fewer heads of keys and values serve several heads of queries, they are repeated.
    """
    shared = query.shape[-3] // key.shape[-3] if query.dim() > 2 else 1
    if shared > 1:
        key, value = key.repeat_interleave(shared, -3), value.repeat_interleave(shared, -3)
    seen = torch.ones(query.shape[-2], key.shape[-2], device=query.device, dtype=query.dtype)
    if is_causal:
        seen = seen.tril()
    if attn_mask is not None:
        seen = seen * (attn_mask if attn_mask.dtype == torch.bool else attn_mask > attn_mask.new_tensor(-1e3))
    shares = seen / seen.sum(-1, keepdim=True).clamp_min(1)
    if value.shape[-1] != query.shape[-1]:  # q and k flow through their means
        query, key = query.abs().mean(-1, keepdim=True), key.abs().mean(-1, keepdim=True)
    return query.abs() + shares @ (key.abs() + value)


def _attention_of_torch(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """Return the outputs of torch.nn.MultiheadAttention, (T, B, width), and no weights of attention."""
    bound = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    bound.apply_defaults()
    given, heads = bound.arguments, bound.arguments["num_heads"]
    separate, bias = given["use_separate_proj_weight"], given["in_proj_bias"]
    weights = [given[f"{part}_proj_weight"] for part in "qkv"] if separate else given["in_proj_weight"].chunk(3)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    parts = []
    for name, weight, own in zip(("query", "key", "value"), weights, biases, strict=True):
        projected = F.linear(given[name], weight, own)
        parts.append(projected.reshape(*projected.shape[:-1], heads, -1).movedim(0, -2))  # (B, heads, T, head width)
    query, key, value = parts
    mask = given["attn_mask"]
    mixed = _attention(query, key, value, mask if mask is None or mask.dim() == 2 else None)
    return F.linear(mixed.movedim(-2, 0).flatten(-2), given["out_proj_weight"], given["out_proj_bias"]), None
