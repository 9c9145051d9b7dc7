"""OpenLTH's experiments, read from its directories."""
