"""Tasks, one file each: the loss, the metrics and the scoring examples. Importing them imports no torch."""
