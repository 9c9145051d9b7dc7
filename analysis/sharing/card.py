"""The card of a published run: README.md, as model hubs show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foundations.inputs import IMAGES, SERIES, TOKENS, VECTORS

_FENCE = "```"
_INPUTS = {
    IMAGES: "Inputs are images, uint8 (N, channels, height, width).",
    VECTORS: "Inputs are vectors, float32 (N, features), not standardized.",
    SERIES: "Inputs are series, float32 (N, channels, time), not standardized.",
    TOKENS: "Inputs are tokens, int64 (N, sequence_length).",
}


def card_of(config: Mapping[str, Any], license_name: str | None, loader: str) -> str:
    """Return the card. config: the content of config.json. loader: the code that loads it; empty if there is none."""
    data, results = config["dataset"], config["results"]
    pruned = f", {config['density']:.4g} of its prunable weights kept" if config["density"] < 1 else ""
    title = f"{config['model_name']} on {data['name']}{pruned}"
    lines = ["---", *([f"license: {license_name.lower()}"] if license_name else [])]
    lines += ["library_name: pytorch", "tags:", "- pruning", "- sparsity", "---", "", f"# {title}", ""]
    lines += _table(("", ""), [(name, text) for name, text in _facts(config, license_name) if text])
    lines += ["## Results", ""]
    lines += _table(("result", "value"), [(name, _number(value)) for name, value in sorted(results.items())])
    lines += ["## Layers", ""]
    rows = [(name, _shape(layer), _density(layer)) for name, layer in config["layers"].items()]
    lines += _table(("tensor", "shape", "density"), rows)
    lines += ["## Lineage", "", "The run, and the runs whose weights or masks it depends on:", ""]
    lines += [
        f"- `{each['location']}` {each.get('kind', '')} {each.get('strategy', '')}".rstrip()
        for each in config["lineage"]
    ]
    lines += ["", "## How to load it", ""]
    if loader:
        lines += [f"{_INPUTS[data['inputs']]} `load.py` needs torch and safetensors alone, and begins like this. "]
        lines[-1] += f"`python load.py TEST.safetensors` prints the {data['metric']} on a prepared test set."
        lines += ["", f"{_FENCE}python", loader.rstrip(), _FENCE, ""]
    else:
        lines += [
            "`model.safetensors` is the state dict. `config.json` has no graph: the network is not a list of calls.",
            "",
        ]
    return "\n".join(lines)


def _facts(config: Mapping[str, Any], license_name: str | None) -> list[tuple[str, str]]:
    data, computed = config["dataset"], config["computed"]
    hparams = {name: value for name, value in config["hyperparameters"].items() if value is not None}
    chosen = ("strategy", "allocation", "training_steps", "optimizer_name", "lr", "batch_size")
    return [
        ("network", config["model_name"]),
        ("data", _data(data, config["outputs"])),
        ("fingerprint of the data", data["fingerprint"]),
        *((name, str(hparams[name])) for name in chosen if name in hparams),
        ("density", f"{config['density']:.6g}"),
        ("step", config["step"]),
        ("run", f"`{config['run']}`"),
        ("computed", f"{computed['finished']} on {computed['device']}, {_versions(computed['versions'])}"),
        ("license", license_name or "not stated"),
    ]


def _data(data: Mapping[str, Any], outputs: int) -> str:
    """Return the name, the task and the sizes of the data."""
    shape = " x ".join(map(str, data["input_shape"]))
    size = f"{data['classes']} classes" if "classes" in data else f"{outputs} outputs"
    inputs = f"{data['inputs']} {shape}"
    if "vocabulary" in data:
        inputs = f"sequences of {shape} tokens, a vocabulary of {data['vocabulary']}"
    return ", ".join([data["name"], data["task"].replace("_", " "), size, inputs])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _number(value: float | None) -> str:
    return "not a finite number" if value is None else f"{value:.6g}"


def _shape(layer: Mapping[str, Any]) -> str:
    return " x ".join(map(str, layer["shape"])) or "scalar"


def _density(layer: Mapping[str, Any]) -> str:
    return f"{layer['kept'] / max(1, layer['of']):.4g}" if "kept" in layer else ""


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
