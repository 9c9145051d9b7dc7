"""How the jobs of a cluster are asked to write their checkpoints and end: by a file on the shared file system."""

import signal

STOP = "stop"
"""The file, in the folder of records, that says that jobs are to end and not to be started again."""
STOPPED = 128 + signal.SIGTERM
"""The exit code of a command that was asked to end and wrote its checkpoint."""
