"""Space under a root: the files that take it, and the states that may go because a replay gives them back."""
