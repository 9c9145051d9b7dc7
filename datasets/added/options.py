"""The options of `datasets add`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datasets.registry import AUGMENTATIONS
from foundations.description.hparams import Hparams, hparam
from foundations.errors import UsageError

Report = Callable[[str], None]
"""Takes a line about a step, or about something that is not read."""

TASKS = ("classification", "multi_label", "regression", "language_modelling", "sequence_classification")
"""The tasks that added datasets can have."""
REFUSE, MEAN, MEDIAN, ZERO = "refuse", "mean", "median", "zero"


@dataclass(frozen=True, kw_only=True)
class AddOptions(Hparams):
    """Reading of a dataset that is added."""

    augmentation: str = hparam("none", choices=AUGMENTATIONS)
    """Augmentation of the training images."""
    image_size: int | None = hparam(None, at_least=1)
    """The side to which images are brought; without it all must have the same size."""
    stream: bool = hparam(False)
    """Leave the images where they are and decode them as they are needed, for datasets that do not fit in memory."""
    task: str | None = hparam(None, choices=TASKS)
    """The task. By default it follows from the targets: texts and whole numbers are classes, numbers with fractions are
    a regression, several columns of 0 and 1 are labels, and text without a target is modelled."""
    target: str = hparam("")
    """Columns of the targets in a table, separated by commas."""
    categorical: str = hparam("")
    """Columns of numbers that are categories, separated by commas. Columns of texts are categories in any case."""
    ignore: str = hparam("")
    """Columns that are not read, such as identifiers, separated by commas."""
    missing: str = hparam(REFUSE, choices=(REFUSE, MEAN, MEDIAN, ZERO))
    """Values for empty cells of a table: refuse them, or fill in the training set's mean or median of the column, or 0.
    In a column of categories, empty cells become a category of their own."""
    text: str = hparam("")
    """Column of a table that holds texts, which become tokens."""
    tokens: str = hparam("")
    """Column of a table that holds lists of token ids, as tokenizers return them; by default `input_ids`. Where there
    is `attention_mask`, ids with a 0 are left out. With --tokenizer, they are ids of its tokens."""
    vocabulary: int | None = hparam(None, at_least=257)
    """Train a byte-pair encoding with this many tokens on the training texts; without it, tokens are bytes."""
    tokenizer: str = hparam("")
    """A tokenizer.json of Hugging Face, whose tokens are used."""
    from_hf: str = hparam("")
    """A folder that Hugging Face's datasets wrote with save_to_disk, in place of PATH."""

    @property
    def targets(self) -> list[str]:
        """The names of the target columns."""
        return names_in(self.target)

    @property
    def ignored(self) -> list[str]:
        """The names of the columns that are not read."""
        return names_in(self.ignore)

    def refuse(self, what: str, *unused: str) -> None:
        """Raise UsageError where one of these options was given. what: names the data that do not use it."""
        for name in unused:
            if getattr(self, name) != getattr(AddOptions, name):
                raise UsageError(f"it has no meaning for {what}.", name)

    def check_task(self, what: str, *possible: str) -> None:
        """Raise UsageError where another task was asked for. what: names the data."""
        if self.task is not None and self.task not in possible:
            raise UsageError(f"'{self.task}' is not a task of {what}; choose from {', '.join(possible)}.", "task")


def names_in(text: str) -> list[str]:
    """Return the names in a comma-separated text, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
