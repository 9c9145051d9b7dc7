"""The train job: its description, the loop, optimizers, schedules, evaluation, checkpoints."""
