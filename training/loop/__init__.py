"""The training loop and its parts: optimizers, schedules, evaluation, checkpoints."""
