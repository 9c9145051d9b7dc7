"""The figures and tables of papers, a TOML file each: `open_prune.py papers` lists them (docs/papers.md)."""
