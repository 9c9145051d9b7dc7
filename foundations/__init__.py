"""What every floor stands on: errors, steps, hyperparameters, addresses, random streams, and the directory of a run."""
