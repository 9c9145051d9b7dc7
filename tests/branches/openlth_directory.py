"""A lottery of digits in a directory of OpenLTH's exact form, and the small lottery that it is written from."""

from __future__ import annotations

from pathlib import Path

from branches.lottery.lottery import Lottery, LotteryHparams
from branches.openlth.files import export_openlth
from foundations.description.desc import Desc
from foundations.storage.run import Run
from pruning.hparams import PruningHparams
from tests.training.small_runs import run_of, train_desc
from training.context import Context
from training.jobs.compute import complete, ensure_states

REWOUND_TO = "4it"
DATASET = """Dataset Hyperparameters
    * dataset_name => digits
    * batch_size => 256
"""
MODEL = """Model Hyperparameters
    * model_name => digits_lenet_16
    * model_init => kaiming_normal
    * batchnorm_init => uniform
"""
TRAINING = """Training Hyperparameters
    * optimizer_name => sgd
    * lr => 0.1
    * training_steps => {steps}
    * momentum => 0.9
    * weight_decay => 0.0001"""
PRUNING = """Hyperparameters for Sparse Global Pruning
    * pruning_strategy => sparse_global
    * pruning_fraction => 0.5
    * pruning_layers_to_ignore => fc.weight
"""
REWINDING = f"Pretraining {DATASET}Pretraining {TRAINING.format(steps=REWOUND_TO)}\n"
OF_TRAINING = DATASET + MODEL + TRAINING.format(steps="3ep")
OF_LOTTERY = DATASET + MODEL + PRUNING + TRAINING.format(steps="3ep")
OF_REWOUND_LOTTERY = DATASET + MODEL + REWINDING + PRUNING + TRAINING.format(steps="3ep")
"""`hparams.log`: groups in the order of their names, no line break at the end."""


def lottery(last: int) -> Lottery:
    """Return the small lottery."""
    pruning = PruningHparams.of({"pruning_layers_to_ignore": "fc.weight"})
    return Lottery(
        train_desc(), pruning, LotteryHparams(levels=str(last), rewinding_steps=REWOUND_TO, pruning_fraction=0.5)
    )


def levels(last: int) -> dict[int, Desc]:
    """Return the levels of the small lottery."""
    return dict(lottery(last).levels(last))


def write_lottery(folder: Path, place: Context, last: int) -> dict[int, Run]:
    """Compute the small lottery and write it as OpenLTH does, rewinding to `REWOUND_TO`; return its runs by level."""
    main, found = train_desc(), {}
    replicate = folder / f"replicate_{place.replicate}"
    for level, desc in levels(last).items():
        run, out = complete(desc, place).run, replicate / f"level_{level}" / "main"
        start = main.step(REWOUND_TO)
        ensure_states(desc, place, [start])
        for step in (start, main.end):
            export_openlth(run, step, out)
        write_logger(run, out)
        found[level] = run
    ensure_states(main, place, [main.start])
    for step in (main.start, main.step(REWOUND_TO)):
        export_openlth(run_of(main, place), step, replicate / "level_pretrain" / "main")
    (replicate / "level_0" / "main" / "hparams.log").write_text(OF_REWOUND_LOTTERY)
    return found


def write_logger(run: Run, out: Path) -> None:
    """Write a run's metrics as OpenLTH's `logger`: no header, no line break at the end."""
    names = ("test_loss", "test_accuracy", "test_examples")
    rows = [(name, step, value) for (name, step), value in run.metrics().values.items() if name in names]
    (out / "logger").write_text("\n".join(f"{name},{step},{value}" for name, step, value in rows))
