"""The methods, allocations, schedules and structures by name: a line for each file that declares one.

Imports no torch.
"""

from __future__ import annotations

from foundations.registry import Registry
from pruning.allocations.allocation import Allocation
from pruning.method import Method
from pruning.schedules.iterations import Schedule
from pruning.structure.structure import Structure

METHODS = Registry(
    Method,
    "strategy",
    (
        "pruning.methods.random",
        "pruning.methods.magnitude",
        "pruning.methods.snip",
        "pruning.methods.force",
        "pruning.methods.grasp",
        "pruning.methods.taylor",
        "pruning.methods.fisher",
        "pruning.methods.synflow",
        "pruning.methods.synflowl2",
        "pruning.methods.phew",
        "pruning.methods.grasp_it",
        "pruning.methods.prospr",
        "pruning.methods.hutchinson",
        "pruning.methods.grad_norm",
        "pruning.methods.ntk_sap",
        "pruning.methods.px",
    ),
    of_methods=True,
)
ALLOCATIONS = Registry(
    Allocation,
    "allocation",
    (
        "pruning.allocations.all_layers",
        "pruning.allocations.uniform",
        "pruning.allocations.er",
        "pruning.allocations.erk",
        "pruning.allocations.balanced",
        "pruning.allocations.ideal_gas",
        "pruning.allocations.uniform_plus",
        "pruning.allocations.lamp",
        "pruning.allocations.smart_ratio",
    ),
    of_methods=True,
)
SCHEDULES = Registry(
    Schedule,
    "prune_schedule",
    (
        "pruning.schedules.exponential",
        "pruning.schedules.linear",
    ),
)
STRUCTURES = Registry(
    Structure,
    "structure",
    (
        "pruning.structure.n_m",
        "pruning.structure.constant_fan_in",
    ),
)
