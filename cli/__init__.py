"""The command line: flags -> descriptions -> jobs; tables, progress, and errors for people."""
