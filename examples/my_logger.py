"""A logger: a text file for each run, with a line for each step at which something was measured."""

from __future__ import annotations

from collections.abc import Mapping

from open_prune import Log, LoggedRun, Logger


class TailLog(Log):
    """Lines such as `23 test_accuracy=0.89 test_loss=0.36`."""

    def __init__(self, run: LoggedRun) -> None:
        """Open an empty file."""
        self._file = (run.folder / "measured.txt").open("w", buffering=1)

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write a line."""
        words = " ".join(f"{name}={value:.4g}" for name, value in sorted(values.items()))
        self._file.write(f"{iteration} {words}\n")

    def finish(self, iteration: int, results: Mapping[str, float]) -> None:
        """Write the sparsity and the other results."""
        self.add(iteration, results)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


TAIL = Logger(spelling="tail", begin=TailLog, shows="in a text file")
