"""A run as a folder for a model hub: card, weights, mask and configuration, for programs without open_prune.

README.md            the card
model.safetensors    the state dict, zero where it is pruned
buffers.safetensors  constants that the state dict leaves out, if the network has any
mask.safetensors     bool tensors by name, if the run has a mask
config.json          layers with their shapes, the network as calls of PyTorch's operators, data, results, lineage
load.py              loads it with torch and safetensors alone
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.rows.lineage import ancestors
from analysis.rows.run import StoredRun
from analysis.sharing.card import card_of
from branches.desc import trained_of
from branches.imported.tickets import check_within
from datasets.hparams import DatasetHparams, TokenHparams
from foundations.description.desc import RunRef
from foundations.description.step import Step
from foundations.errors import UsageError
from foundations.files import explain_os_errors, publish_folder
from foundations.parts import part_of
from foundations.storage.run import Run
from foundations.storage.store import short_address

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask

LOADER = Path(__file__).with_name("load_published.py")
REST = "# The rest"
"""The loader up to this comment computes the outputs; the card shows it."""
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")


@dataclass(frozen=True)
class Published:
    """A folder that was written."""

    folder: Path
    files: tuple[str, ...]
    no_graph: str
    """A message on why config.json has no graph; empty if it has one."""


def publish(
    stored: StoredRun, folder: Path, *, step: str | None = None, license_name: str | None = None, replay: bool = False
) -> Published:
    """Write a complete run as a folder for a model hub.

    step: of the state; by default the last. license_name: its identifier, such as mit. replay: whether to compute a
    state that was not kept.
    Raises: UsageError if the run is not complete, the folder is not empty or an argument is wrong; EnvironmentFailure.
    """
    from safetensors.torch import save

    from analysis.sharing.graph import extra_buffers

    if license_name is not None and not _LICENSE.fullmatch(license_name):
        raise UsageError(f"'{license_name}' is not an identifier of a license, such as mit or cc-by-4.0.", "license")
    if stored.manifest is None:
        raise UsageError(f"{stored} is not complete, so it has no results to publish.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not an empty folder; name another one.")
    run = Run(stored.environment.root, stored.location)
    at = Step(stored.description.end.iteration, stored.description.iterations_per_epoch) if step is None else None
    at = at or stored.step(step)
    model, mask = stored.model(at, replay=replay), stored.mask()
    state = {name: tensor.detach().contiguous().clone() for name, tensor in model.state_dict().items()}
    if mask is not None:
        check_within(run, at, state)
    config, no_graph = config_of(stored, at, state, mask)
    files = {
        "model.safetensors": save(state, {"format": "pt"}),
        "config.json": (json.dumps(config, indent=1, allow_nan=False) + "\n").encode(),
    }
    buffers = {} if no_graph else extra_buffers(model)
    if buffers:
        files["buffers.safetensors"] = save(buffers, {"format": "pt"})
    if mask is not None:
        files["mask.safetensors"] = save({name: kept.contiguous() for name, kept in mask.items()}, {"format": "pt"})
    loader = LOADER.read_text()
    if not no_graph:
        files["load.py"] = loader.encode()
    files["README.md"] = card_of(config, license_name, "" if no_graph else loader.partition(REST)[0]).encode()
    _write(folder, files)
    return Published(folder, tuple(sorted(files)), no_graph)


def config_of(
    stored: StoredRun, step: Step, state: Mapping[str, Tensor], mask: Mask | None
) -> tuple[dict[str, Any], str]:
    """Return the content of config.json, and why it has no graph of the network; empty if it has one."""
    from analysis.sharing.graph import graph_of

    manifest = stored.manifest
    assert manifest is not None, "the run is complete"
    main = trained_of(RunRef(stored.description))
    layers: dict[str, Any] = {}
    for name, tensor in state.items():
        layers[name] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        if mask is not None and name in mask:
            layers[name] |= {"kept": int(mask[name].sum()), "of": tensor.numel()}
    config: dict[str, Any] = {
        "open_prune": 1,
        "run": str(stored),
        "step": str(step),
        "model_name": main.model.model_name,
        "outputs": main.outputs,
        "dataset": _dataset(main.dataset, manifest.dataset.get(main.dataset_name, "")),
        "results": _results(stored, step),
        "density": mask.density if mask is not None else 1.0,
        "hyperparameters": stored.hyperparameters,
        "lineage": _lineage(stored),
        "computed": {"device": manifest.device, "finished": manifest.finished, "versions": dict(manifest.versions)},
        "layers": layers,
    }
    try:
        config["graph"] = graph_of(stored.model(step), main.dataset.inputs)
    except UsageError as error:
        return config, error.reason
    return config, ""


def _dataset(data: DatasetHparams, fingerprint: str) -> dict[str, Any]:
    """Return the facts about the data that the card states and load.py needs."""
    spec, (mean, std) = data.spec, data.constants
    facts: dict[str, Any] = {"name": data.dataset_name, "fingerprint": fingerprint}
    facts |= {"task": data.unsupervised_labels or data.task.spelling, "metric": data.task.headline.spelling}
    if data.num_classes:
        facts["classes"] = data.num_classes
    facts |= {"inputs": spec.inputs, "input_shape": list(data.input_shape), "mean": list(mean), "std": list(std)}
    if spec.target_std and not data.num_classes:
        facts |= {"target_mean": list(spec.target_mean), "target_std": list(spec.target_std)}
    if isinstance(data, TokenHparams):
        facts |= {"vocabulary": spec.vocabulary, "padding": spec.padding, "separator": spec.separator}
        facts |= {"stride": data.stride or data.length}
    return facts


def _results(stored: StoredRun, step: Step) -> dict[str, float | None]:
    """Return the results of the run, or what was measured at an earlier step."""
    if step.iteration == stored.description.end.iteration:
        return stored.results
    values = stored.metrics.values
    return {name: value for (name, iteration), value in sorted(values.items()) if iteration == step.iteration}


def _lineage(stored: StoredRun) -> list[dict[str, str]]:
    """Return the run and all that it depends on, with the facts that tell them apart."""
    found: dict[str, dict[str, str]] = {}
    for relative in ancestors(Run(stored.environment.root, stored.location)):
        run = relative.run
        facts = {"address": short_address(run), "location": str(run)}
        if run.exists():
            hparams = run.record()["hyperparameters"].get("pruning", {})
            kind = str(run.record()["kind"])
            facts |= {"kind": kind, "strategy": str(hparams.get("strategy", ""))}
        found.setdefault(str(run), facts)
    return list(found.values())


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files, or none."""
    part = part_of(folder)
    with explain_os_errors("write", folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        try:
            for name, content in files.items():
                (part / name).write_bytes(content)
            publish_folder(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
