"""Imports, look-ups and settings that all jobs share. The pool's fork server imports this module once for its children.

Nothing here may start a thread or touch a device, since children are forked from the process.
"""
# ruff: noqa: E402 (imports behind a statement)

import gc

gc.disable()  # until all is imported: collections would take a sixth of the time, and find less than a megabyte

import importlib
import pkgutil

import numpy.ctypeslib  # safetensors imports it at the first tensor
import numpy.random  # noqa: F401
import safetensors.torch  # noqa: F401

from branches import job as _branch_jobs  # noqa: F401
from branches import kinds
from datasets import registry as _datasets
from foundations.registry import Registry
from models import activations, initializers, networks
from models import build as _build  # noqa: F401
from models import registry as _models
from platforms import platform
from platforms.local import fix_workspaces
from pruning import registry as _pruning
from training import registry as _training
from training.jobs.provenance import versions

for _module in (kinds, _datasets, _models, activations, initializers, platform, _pruning, _training):
    for _entry in vars(_module).values():
        if isinstance(_entry, Registry):
            _entry.spellings()
for _network in pkgutil.iter_modules(networks.__path__, f"{networks.__name__}."):
    importlib.import_module(_network.name)
versions()
fix_workspaces()
gc.enable()
gc.freeze()  # a collection in a child looks at the child's own objects only, and leaves the others' pages shared


def state() -> dict[str, dict[str, str]]:
    """Return the part of a process's state that manifests contain: the libraries that its jobs have imported."""
    return {"versions": versions()}
