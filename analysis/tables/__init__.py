"""Tables of results: means over replicates, in the formats that papers and programs read."""
