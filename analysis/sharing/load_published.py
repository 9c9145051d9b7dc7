"""Load a published network with torch and safetensors alone; print its accuracy: python load.py TEST.safetensors."""

import functools
import json
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def network(folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the network in a folder: a function from examples as they are stored to outputs (N, ...).

    Examples: images uint8 (N, C, H, W), vectors (N, F) or series (N, C, T) as floats, or tokens int64 (N, T).
    """
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    data = config["dataset"]

    def value(of: Any, found: dict[str, Any]) -> Any:
        if isinstance(of, dict):
            ((kind, name),) = of.items()
            return tensors[name] if kind == "tensor" else found[name] if kind == "node" else getattr(torch, name)
        return [value(each, found) for each in of] if isinstance(of, list) else of

    def normalized(examples: torch.Tensor) -> torch.Tensor:
        kind = data.get("inputs", "images")
        if kind == "tokens":
            return examples
        mean, std = (torch.tensor(data[name]).view(-1, *[1] * (examples.dim() - 2)) for name in ("mean", "std"))
        return ((examples / 255 if kind == "images" else examples) - mean) / std

    def forward(examples: torch.Tensor) -> Any:
        found: dict[str, Any] = {"input": normalized(examples)}
        for name, op, args, options in config["graph"]["nodes"]:
            home, *path = op.split(".")
            function: Any = functools.reduce(getattr, path, operator if home == "operator" else torch.ops.aten)
            found[name] = function(*value(args, found), **{key: value(each, found) for key, each in options.items()})
        return found[config["graph"]["output"]]

    return forward


if __name__ == "__main__":
    data = load_file(sys.argv[1])  # images, or inputs (vectors, series), and labels, int64 (N,)
    examples = data.get("images", data.get("inputs"))
    if examples is None or "labels" not in data:
        sys.exit("The accuracy is of images, vectors or series with classes. For others, call `network(folder)`.")
    published = network(Path(__file__).parent)
    with torch.no_grad():
        predicted = torch.cat([published(part).argmax(1) for part in torch.split(examples, 500)])
    print((predicted == data["labels"]).double().mean().item())
