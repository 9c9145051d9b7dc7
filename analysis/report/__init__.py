"""The report: one page about many runs, which opens in any browser, offline."""
