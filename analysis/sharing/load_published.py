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
    """Return the network in a folder: a function from images, uint8 (N, C, H, W), to logits (N, classes)."""
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    mean, std = (torch.tensor(config["dataset"][name])[:, None, None] for name in ("mean", "std"))

    def value(of: Any, found: dict[str, Any]) -> Any:
        if isinstance(of, dict):
            ((kind, name),) = of.items()
            return tensors[name] if kind == "tensor" else found[name] if kind == "node" else getattr(torch, name)
        return [value(each, found) for each in of] if isinstance(of, list) else of

    def forward(images: torch.Tensor) -> Any:
        found: dict[str, Any] = {"input": (images / 255 - mean) / std}
        for name, op, args, options in config["graph"]["nodes"]:
            home, *path = op.split(".")
            function: Any = functools.reduce(getattr, path, operator if home == "operator" else torch.ops.aten)
            found[name] = function(*value(args, found), **{key: value(each, found) for key, each in options.items()})
        return found[config["graph"]["output"]]

    return forward


if __name__ == "__main__":
    data = load_file(sys.argv[1])  # images, uint8 (N, C, H, W), and labels, int64 (N,)
    published = network(Path(__file__).parent)
    with torch.no_grad():
        predicted = torch.cat([published(part).argmax(1) for part in torch.split(data["images"], 500)])
    print((predicted == data["labels"]).double().mean().item())
