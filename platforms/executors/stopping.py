"""Stopping jobs of a cluster: a file on the shared file system asks them to write their checkpoints and end."""

import signal

STOP = "stop"
"""The file, in the folder of records, that asks jobs to end and not to start again."""
STOPPED = 128 + signal.SIGTERM
"""The exit code of a command that was asked to end and wrote its checkpoint."""
