"""How far runs are, and how long they will take."""
