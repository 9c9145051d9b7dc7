"""The command line of open_prune: `python open_prune.py` lists the commands."""

import sys

from cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
