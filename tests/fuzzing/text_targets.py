"""Text that people type: arguments of every command, and the small languages in them."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from cli.main import COMMANDS
from tests.fuzzing.harness import Attempt, Target, command, files_in, restored
from tests.fuzzing.mutations import TEXTS, text_like
from tests.fuzzing.run_targets import own_root
from tests.fuzzing.seeds import ONESHOT, REWIND, TRAIN, Seeds

_LINES: tuple[tuple[str, ...], ...] = (
    (*TRAIN, "--dry_run"),
    (*ONESHOT, "--dry_run"),
    (*REWIND, "--dry_run"),
    ("lottery", *TRAIN[1:], "--levels=0-2", "--dry_run"),
    ("train", *TRAIN[1:], "--weight_save_steps=0it,1it-2it@1it", "--milestone_steps=1it", "--dry_run"),
    ("train", *TRAIN[1:], "--technique=gmp", "--gmp_end=2it", "--gmp_density=0.1", "--dry_run"),
    (
        "branch",
        "train",
        "oneshot",
        *TRAIN[1:],
        "--strategy=synflow",
        "--prune_iterations=3",
        "--layers_to_ignore=fc.weight",
        "--dry_run",
    ),
    (
        "sweep",
        "--grid",
        "strategy=snip1,random",
        "--grid",
        "density=0.5^1..3",
        "--dry_run",
        "--",
        "branch",
        "train",
        "oneshot",
        *TRAIN[1:],
    ),
    ("sweep", "--grid", "lr,batch_size=0.1:128,0.01:64", "--when", "lr=0.1:seed=3", "--export", "--", *TRAIN),
    ("ls", "--where=strategy=snip1,status=complete", "--sort=-accuracy"),
    ("ls", "--where=lr=0.1,training_steps=2it", "--json"),
    ("show", "train_"),
    ("show", "branch_oneshot", "--json"),
    ("table", "--rows=strategy", "--columns=sparsity", "--value=test_accuracy@best"),
    ("table", "--rows=strategy,density", "--where=status=complete", "--format=latex", "--value=test_loss@1it"),
    ("table", "--rows=strategy", "--format=csv", "--value=test_accuracy@max"),
    ("verify", "train_"),
    ("datasets",),
    ("strategies",),
    ("measures",),
    ("measure", "layer_conservation", "train_", "--device=cpu", "--step=0it"),
    ("export", "train_", "out.safetensors", "--step=2it"),
    ("import", "out.safetensors", "--device=cpu"),
    ("papers",),
    ("paper", "demo", "--dry_run", "--scale=cpu"),
    ("watch", "--once"),
    ("stop",),
    ("run", "x.json"),
    ("rm", "train_"),
)
_DRAWN: tuple[tuple[str, ...], ...] = (
    ("plot", "curves", "--out=x.svg", "--lines=strategy", "--value=test_accuracy", "--where=status=complete"),
    ("plot", "training", "--out=x.svg", "--value=test_loss"),
    ("plot", "layers", "--out=x.svg"),
    ("plot", "overlap", "--out=x.svg"),
    ("report", "--out=x.html", "--where=strategy=snip1", "--value=test_accuracy"),
)
_DANGEROUS = ("--executor", "--platform", "--watch")
"""Flags that start processes, or wait; their values are not mutated."""


def text_targets(seeds: Seeds) -> list[Target]:
    """Return the targets."""
    return [
        Target("arguments", partial(_arguments, seeds, _LINES), 8_000),
        Target("arguments of figures", partial(_arguments, seeds, _DRAWN), 400, batch=100),
    ]


def _arguments(seeds: Seeds, lines: tuple[tuple[str, ...], ...], folder: Path) -> Attempt:
    root = own_root(seeds, folder, seeds.root)
    valid = files_in(root)

    def attempt(stream: random.Random) -> None:
        with restored(valid, root):
            command(*_line_like(stream.choice(lines), stream))

    return attempt


def _line_like(line: tuple[str, ...], stream: random.Random) -> list[str]:
    """Return a command line with arguments changed, swapped, repeated, added or left out."""
    words = list(line)
    for _ in range(stream.choice((1, 1, 2, 3))):
        at = stream.randrange(len(words) + 1)
        action = stream.randrange(8)
        if at == len(words) or action == 0:
            words.insert(
                at,
                stream.choice((*TEXTS, *COMMANDS, "--", "--help", "-h", "--no_x", "--seed=-1", "--x", "--replicate=0")),
            )
        elif action == 1:
            del words[at]
        elif action == 2:
            words.insert(stream.randrange(len(words)), words[at])
        elif action == 3:
            words[at] = stream.choice(stream.choice(_LINES))
        else:
            name, equals, value = words[at].partition("=")
            words[at] = name + equals + text_like(value, stream) if equals else text_like(name, stream)
    # As the system hands arguments over: without NUL, bytes that are not UTF-8 as surrogates.
    clean = [word.replace("\0", "").replace("\ud800", "\udc80") for word in words]
    return [word for word in clean if not word.startswith(_DANGEROUS)] if _is_harmless(clean) else ["ls"]


def _is_harmless(words: list[str]) -> bool:
    """Return whether a line neither trains for long nor waits nor writes to a place that it names."""
    if "models" in words:  # it measures a hundred networks
        return False
    joined = " ".join(words)
    is_job = any(word in joined for word in ("train", "lottery", "branch", "sweep", "paper", "run"))
    writes = any(
        word.startswith(("--out", "--root", "--datasets_root")) and ("/" in word or "~" in word) for word in words
    )
    follows = any(word in ("--out", "--root", "--datasets_root") for word in words)
    return not writes and not follows and (not is_job or "--dry_run" in words or "--export" in words)
