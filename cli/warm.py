"""What every job imports. The pool's fork server imports it once, so that its children need not.

It only imports: nothing here may start a thread or touch a device, since children are forked from the process.
"""

import importlib
import pkgutil
from typing import Any

import numpy.random  # noqa: F401
import safetensors.torch  # noqa: F401
import torch._dynamo  # noqa: F401 (an optimizer imports it at its first step, which takes a second)

import branches.job  # noqa: F401
import cli.main
import cli.run  # noqa: F401
import datasets.memory  # noqa: F401
import models.build
import models.networks
import training.work  # noqa: F401
from branches.kinds import KINDS
from datasets.registry import AUGMENTATIONS, DATASETS
from foundations.registry import Registry
from models.activations import ACTIVATIONS
from models.initializers import BATCHNORM_INITS, BIAS_INITS, MASKED_INITS, WEIGHT_INITS
from models.registry import FAMILIES
from platforms.registry import PLATFORMS
from pruning.registry import ALLOCATIONS, METHODS, SCHEDULES
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
for _module in pkgutil.iter_modules(models.networks.__path__, f"{models.networks.__name__}."):
    importlib.import_module(_module.name)
