"""`gratings`: a dataset that is computed, as a plug-in. Its 16x16 images show waves in one of four directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_prune import DatasetSpec, SourceFiles, Split

if TYPE_CHECKING:
    import numpy as np

NAMES = ("horizontal", "rising", "vertical", "falling")
SIDE = 16


def gratings(_: SourceFiles) -> dict[str, Split]:
    """Return both splits. Other datasets use the argument to read or download their files here."""
    import numpy as np

    random = np.random.default_rng(0)
    return {"train": _split(2000, random), "test": _split(500, random)}


def _split(count: int, random: np.random.Generator) -> Split:
    """Return images of waves with random phases, and as much noise."""
    import numpy as np

    labels = random.integers(len(NAMES), size=count)
    angles = (labels * np.pi / 4)[:, None, None]
    down, right = np.mgrid[:SIDE, :SIDE]
    phases = random.uniform(0, 2 * np.pi, size=(count, 1, 1))
    waves = np.sin(np.cos(angles) * down + np.sin(angles) * right + phases)
    pixels = np.clip(127.5 + 64 * waves + 64 * random.standard_normal(waves.shape), 0, 255)
    return Split(pixels.astype(np.uint8)[:, None], labels, NAMES, "computed by examples/my_dataset.py")


GRATINGS = DatasetSpec(
    spelling="gratings",
    num_train=2000,
    num_test=500,
    num_classes=len(NAMES),
    input_shape=(1, SIDE, SIDE),
    mean=(0.5,),
    std=(0.29,),
    read=gratings,
    origin="computed; an example of a dataset of your own",
)
