"""Which examples a method scores with: N of each class, the same for everyone who asks with the same seed."""

from __future__ import annotations

import torch

from foundations.errors import UsageError
from foundations.random_streams import generator


def choose_examples(labels: torch.Tensor, per_class: int, seed: int, *, flag: str = "--strategy") -> torch.Tensor:
    """Return the indices (int64) of exactly `per_class` examples of each class that occurs, in a shuffled order.

    The choice is the first `per_class` of each class in a permutation drawn from `seed`, and they stand in the order
    of that permutation. labels: (N,), integers.

    Raises: UsageError where a class has fewer examples; it names the class.
    """
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator("scoring examples", seed))
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(labels.tolist())):
        places = (labels[order] == label).nonzero().flatten()
        if len(places) < per_class:
            raise UsageError(
                f"{flag}: {per_class} examples of each class are not possible; class {label} has {len(places)}."
            )
        chosen[places[:per_class]] = True
    return order[chosen]
