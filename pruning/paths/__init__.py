"""A network as a graph of units: its connectivity, its paths, the walks of PHEW."""
