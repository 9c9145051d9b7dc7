"""From the words of a command line to descriptions of runs: flags, grids, paper files, words of other code bases."""
