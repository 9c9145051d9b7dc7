"""Random networks with all that `prune` wants to know of them: settings, examples, losses, forms of outputs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, TensorDataset

from tests.pruning.odd_layers import Tape, Unregistered, Watch
from tests.pruning.random_modules import CLASSES, LINEAR, PER_CLASS, Builder, wrapped


@dataclass
class Case:
    """A network, and everything that `prune` wants to know of it."""

    model: nn.Module
    inputs: Any
    targets: Tensor
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    output: Callable[[Any], Tensor] | None = None
    form: str = "pair"
    watches: list[Watch] = field(default_factory=list)

    @property
    def examples(self) -> Any:
        """The examples in one of the forms that `prune` takes."""
        if self.form == "batches" and isinstance(self.inputs, Tensor):
            return [(self.inputs[:4], self.targets[:4]), (self.inputs[4:], self.targets[4:])]
        if self.form == "loader" and isinstance(self.inputs, Tensor):
            return DataLoader(TensorDataset(self.inputs, self.targets), batch_size=4)
        if self.form == "dictionary" and isinstance(self.inputs, dict):
            return {**self.inputs, "labels": self.targets}
        return self.inputs, self.targets

    def value(self, model: nn.Module) -> Tensor:
        """Return the loss of a network like this one."""
        return self.loss(self.outputs(model), self.targets)

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the logits of a network like this one for copies of the inputs."""
        if isinstance(self.inputs, dict):
            found = model(**{name: value.clone() for name, value in self.inputs.items()})
        elif isinstance(self.inputs, tuple):
            found = model(*(value.clone() for value in self.inputs))
        else:
            found = model(self.inputs.clone())
        while not isinstance(found, Tensor):
            found = (
                found["logits"]
                if isinstance(found, Mapping)
                else found[0]
                if isinstance(found, tuple)
                else found.logits
            )
        return found


def build(values: bytes, *, drops: bool = True, wraps: bool = True) -> Case:
    """Return the network and the examples that some bytes describe: always the same.

    drops: whether its dropout drops anything. wraps: whether a wrapper of networks may contain it.
    """
    tape = Tape(values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tape.of(0, 1, 2, 3))
        builder = Builder(tape, 0.4 if drops else 0.0)
        model, inputs = builder.network()
        _parametrize(tape, model)
        dtype = tape.of(torch.float32, torch.float64, torch.bfloat16)
        model.to(dtype)
        for module in model.modules():
            if isinstance(module, Unregistered):
                module.hidden[0].to(dtype)
        _set_up(tape, model)
        count = CLASSES * PER_CLASS
        inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
        case = Case(model, inputs, torch.arange(count) % CLASSES, watches=builder.watches)
        case.form = tape.of("pair", "batches", "loader", "dictionary")
        _choose_loss(tape, case)
        _choose_forms(tape, case)
        kind = tape.of("", "", "", "", "parallel", "compiled", "both")
        if wraps:
            case.model = wrapped(kind, case.model)
    return case


def clean(name: str) -> str:
    """Return a name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


def _parametrize(tape: Tape, model: nn.Module) -> None:
    """Let some weights be computed: by weight_norm in both forms, or by torch.nn.utils.prune."""
    uses = Counter(id(own) for module in model.modules() for own in module._parameters.values())
    compiled = [module._modules.get("_orig_mod") for module in model.modules()]
    for module in list(model.modules()):
        if type(module) not in LINEAR or "forward" in vars(module):
            continue
        kind = tape.of("", "", "", "", "weight_norm", "parametrized", "pruned", "twice pruned", "structured", "biases")
        dim = tape.of(0, None, 1)
        # The v of weight_norm would share memory with the weight of a tied layer, without being the same parameter; and
        # torch copies a compiled layer with parametrizations without its compiled code.
        if uses[id(module.weight)] > 1 and kind in ("weight_norm", "parametrized"):
            kind = "pruned"
        if kind == "parametrized" and any(module is inner for inner in compiled):
            kind = ""
        if kind == "weight_norm":
            nn.utils.weight_norm(module, dim=dim)
        elif kind == "parametrized":
            parametrizations.weight_norm(module, dim=dim or 0)
        elif kind == "structured":
            prune.ln_structured(module, "weight", 0.4, 2, 0)
        elif kind:
            prune.random_unstructured(module, "bias" if kind == "biases" and module.bias is not None else "weight", 0.3)
        if kind == "twice pruned":
            prune.l1_unstructured(module, "weight", 0.5)


def _set_up(tape: Tape, model: nn.Module) -> None:
    """Choose modes, frozen parameters, existing gradients and memory formats."""
    for module in model.modules():
        module.training = tape.of(True, False)
    for parameter in model.parameters():
        setting = tape.of("", "", "frozen", "gradient", "strided")
        parameter.requires_grad_(setting != "frozen")
        if setting == "gradient":
            parameter.grad = torch.randn_like(parameter)
        elif setting == "strided" and parameter.dim() > 1:
            parameter.data = parameter.data.transpose(0, 1).contiguous().transpose(0, 1)


def _choose_loss(tape: Tape, case: Case) -> None:
    kind = tape.of("labels", "labels", "numbers", "probabilities", "ignored")
    if kind == "numbers":
        case.targets, case.loss = torch.randn(len(case.targets), CLASSES, dtype=torch.float64), _squares
    elif kind == "probabilities":
        case.targets = torch.randn(len(case.targets), CLASSES).softmax(1)
        case.loss = F.cross_entropy
    elif kind == "ignored":
        case.loss = nn.CrossEntropyLoss(ignore_index=2)


def _squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets.to(outputs.dtype))


def _choose_forms(tape: Tape, case: Case) -> None:
    form = tape.of("tensor", "tensor", "tuple", "dictionary")
    returned = tape.of("tensor", "tensor", "tuple", "dictionary", "dataclass", "chosen")
    if case.loss is _squares and returned not in ("tensor", "chosen"):
        returned = "tensor"
    if form == "tensor" and returned == "tensor":
        return
    factor = torch.linspace(0.5, 1.5, len(case.targets)).to(next(case.model.parameters()).dtype)
    if form != "tensor":
        names = ("factor", "x")
        case.inputs = (factor, case.inputs) if form == "tuple" else dict(zip(names, (factor, case.inputs), strict=True))
    case.model = (Named if form != "tensor" else Returning)(case.model, returned)
    if returned == "chosen":
        case.output = _first_of_first


def _first_of_first(outputs: Any) -> Tensor:
    return outputs[0][0]


class Returning(nn.Module):
    """Returns logits in some form."""

    def __init__(self, inner: nn.Module, form: str) -> None:
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, x: Tensor) -> Any:
        return self._returned(self.inner(x))

    def _returned(self, logits: Tensor) -> Any:
        forms: dict[str, Any] = {
            "tuple": (logits, logits.mean()),
            "dictionary": {"hidden": logits * 2, "logits": logits},
        }
        forms |= {"dataclass": Outputs(logits, logits.sum()), "chosen": ((logits, logits), logits)}
        return forms.get(self.form, logits)


class Named(Returning):
    """Takes two arguments."""

    def forward(self, factor: Tensor, x: Tensor) -> Any:  # type: ignore[override]
        return self._returned(self.inner(x) * factor[:, None])


@dataclasses.dataclass
class Outputs:
    logits: Tensor
    total: Tensor
