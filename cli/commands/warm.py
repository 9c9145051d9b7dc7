"""Imports and look-ups that all jobs share. The pool's fork server imports this module once for its children.

Nothing here may start a thread or touch a device, since children are forked from the process.
"""

import importlib
import pkgutil
from typing import Any

import numpy.ctypeslib  # safetensors imports it at the first tensor
import numpy.random  # noqa: F401
import safetensors.torch  # noqa: F401

from branches import job as _branch_jobs  # noqa: F401
from branches.kinds import KINDS
from datasets.registry import AUGMENTATIONS, DATASETS
from foundations.registry import Registry
from models import build as _build  # noqa: F401
from models import networks
from models.activations import ACTIVATIONS
from models.initializers import BATCHNORM_INITS, BIAS_INITS, MASKED_INITS, WEIGHT_INITS
from models.registry import FAMILIES
from platforms.platform import PLATFORMS
from pruning.registry import ALLOCATIONS, METHODS, SCHEDULES
from training.jobs.provenance import versions
from training.registry import TECHNIQUES

_NAMED: tuple[Registry[Any], ...] = (
    KINDS,
    METHODS,
    ALLOCATIONS,
    SCHEDULES,
    DATASETS,
    AUGMENTATIONS,
    FAMILIES,
    ACTIVATIONS,
    WEIGHT_INITS,
    BIAS_INITS,
    BATCHNORM_INITS,
    MASKED_INITS,
    TECHNIQUES,
    PLATFORMS,
)
for _registry in _NAMED:
    _registry.spellings()
for _module in pkgutil.iter_modules(networks.__path__, f"{networks.__name__}."):
    importlib.import_module(_module.name)
versions()
