"""Load a published network with torch and safetensors alone; print its metric: python load.py TEST.safetensors."""

import functools
import itertools
import json
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


def network(folder: Path) -> Callable[[Tensor], Tensor]:
    """Return the network in a folder: a function from inputs, as prepared files have them, to its outputs."""
    config, paths = json.loads((folder / "config.json").read_text()), [folder / "model.safetensors"]
    paths += folder.glob("buffers.safetensors")  # constants that the state dict leaves out, where there are any
    tensors, data = {name: tensor for path in paths for name, tensor in load_file(path).items()}, config["dataset"]
    scale = 255 if data.get("inputs", "images") == "images" else 1

    def value(of: Any, found: dict[str, Any]) -> Any:
        if isinstance(of, dict):
            ((kind, name),) = of.items()
            return tensors[name] if kind == "tensor" else found[name] if kind == "node" else getattr(torch, name)
        return [value(each, found) for each in of] if isinstance(of, list) else of

    def forward(inputs: Tensor) -> Any:
        mean, std = (torch.tensor(data[name]).view(-1, *(1,) * (inputs.dim() - 2)) for name in ("mean", "std"))
        found: dict[str, Any] = {"input": (inputs / scale - mean) / std if data["mean"] else inputs}
        for name, op, args, options in config["graph"]["nodes"]:
            home, *path = op.split(".")
            function: Any = functools.reduce(getattr, path, operator if home == "operator" else torch.ops.aten)
            found[name] = function(*value(args, found), **{key: value(each, found) for key, each in options.items()})
        return found[config["graph"]["output"]]

    return forward


# The rest computes the metric of the network's task on a prepared test set.


def examples(test: dict[str, Tensor], data: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the inputs of the network and the targets of a prepared test set."""
    if "tokens" not in test:
        return test["images" if "images" in test else "inputs"], test["labels" if "labels" in test else "targets"]
    (length,), tokens, ends = data["input_shape"], test["tokens"].long(), test["documents"].tolist()
    documents = [tokens[first:last] for first, last in itertools.pairwise(ends)]
    if data["task"] != "language_modelling":
        padded = torch.full((len(documents), length), data["padding"] or 0)
        for row, document in zip(padded, documents, strict=True):
            row[: len(document)] = document[:length]
        return padded, test["labels" if "labels" in test else "targets"]
    separator = torch.tensor([] if data["separator"] is None else [data["separator"]], dtype=torch.int64)
    stream = torch.cat([part for document in documents for part in (separator, document)])
    starts = torch.arange(0, max(0, len(stream) - 1 - length) + data["stride"], data["stride"])[:, None]
    places = starts + torch.arange(length + 1)
    counts = (places < len(stream)) & ((starts == 0) | (torch.arange(length + 1) > length - data["stride"]))
    sequences = stream[places.clamp(max=len(stream) - 1)]
    return sequences[:, :-1], sequences.masked_fill(~counts, -100)[:, 1:]


def metric(outputs: Tensor, targets: Tensor, data: dict[str, Any]) -> float:
    """Return accuracy, perplexity, R² or average precision, by the task. outputs: of language models, their losses."""
    if data["task"] in ("classification", "sequence_classification"):
        return (outputs.argmax(1) == targets).double().mean().item()
    if data["task"] == "language_modelling":
        return (outputs.double().sum() / (targets != -100).sum()).exp().item()
    if data["task"] == "regression":
        mean, std = (
            torch.tensor(data[name] or other) for name, other in (("target_mean", [0.0]), ("target_std", [1.0]))
        )
        wanted = ((targets - mean) / std).double()
        errors, spreads = (outputs - wanted).square().sum(0), (wanted - wanted.mean(0)).square().sum(0)
        return torch.where(spreads > 0, 1 - errors / spreads, 0.0).mean().item()
    if data["task"] == "multi_label":
        precisions = [precision(*pair) for pair in zip(outputs.T, targets.T, strict=True) if pair[1].any()]
        return sum(precisions) / max(1, len(precisions))
    raise SystemExit(f"No metric of {data['task']} is here; network(folder) computes the outputs.")


def precision(scores: Tensor, labels: Tensor) -> float:
    """Return the average precision of a label; examples of equal scores count together."""
    order = scores.argsort(descending=True)
    last = torch.cat([scores[order].diff() != 0, torch.tensor([True])])
    hits, numbers = labels[order].double().cumsum(0)[last], torch.arange(1, len(labels) + 1)[last]
    return (hits.diff(prepend=torch.zeros(1)) / hits[-1] * hits / numbers).sum().item()


def answers(published: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor, data: dict[str, Any]) -> Tensor:
    """Return the outputs for some inputs, or the losses of their next tokens, which are smaller."""
    outputs = published(inputs).float()
    if data["task"] != "language_modelling":
        return outputs
    return torch.nn.functional.cross_entropy(outputs.mT, targets, ignore_index=-100, reduction="none")


if __name__ == "__main__":
    here = Path(__file__).parent
    published, about = network(here), json.loads((here / "config.json").read_text())["dataset"]
    inputs, wanted = examples(load_file(sys.argv[1]), about)
    with torch.no_grad():
        parts = zip(torch.split(inputs, 50), torch.split(wanted, 50), strict=True)
        print(metric(torch.cat([answers(published, *part, about) for part in parts]), wanted, about))
