"""Text on a terminal: tables that fit it, family trees, differences of runs."""
