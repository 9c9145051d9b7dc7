"""Run a command that receives a signal to end as soon as its parent is gone: `tied.py PARENT COMMAND...`.

A killed worker of Ray leaves its processes behind. They would go on and hold the locks of their runs while Ray restarts
the same task on another node.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it has ended before the line above
        sys.exit(128 + signal.SIGTERM)
    os.execvp(command[0], command)
