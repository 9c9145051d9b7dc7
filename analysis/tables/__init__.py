"""Tables of results: means over replicates, in formats for papers and programs."""
