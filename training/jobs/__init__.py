"""Jobs: from a description to the files of a run, or of several runs that are trained together."""
