"""The base: errors, steps, hyperparameters, descriptions, runs, plans, registries, random streams."""
