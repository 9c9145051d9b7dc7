"""The report: one page about many runs, which opens in any browser without a network."""
