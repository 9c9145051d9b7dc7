"""Passing measurements of a run to loggers, while it trains or once it is complete. Imports no torch."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from foundations.description.desc import flat_hyperparameters
from foundations.errors import OpenPruneError
from foundations.files import write_atomically
from foundations.metrics import Metrics
from foundations.plugins.users_code import place_of_error, returned
from foundations.storage.manifest import Manifest
from foundations.storage.run import METRICS, Run
from foundations.storage.store import short_address
from training.loggers.logger import Log, LoggedRun, Logger
from training.loggers.registry import LOGGERS

_TOLD = "complete.json"
"""The file in a logger's folder of a run that records that the logger has received everything."""


class Follower:
    """Passes measurements of a run to loggers. A logger that fails is reported once, and gets no more of the run."""

    def __init__(self, run: Run, names: Sequence[str], say: Callable[[str], None]) -> None:
        """Start the logs. names: the loggers' names. say: prints a line for people."""
        self._run, self._say = run, say
        self._logs: dict[str, Log] = {}
        self._told = 0
        for name in names:
            with self._surviving(name):
                self._logs[name] = log = self._begun(name)
                if log.place:
                    say(f"{name}: {log.place}")

    def tell(self, metrics: Metrics) -> None:
        """Pass on all measurements since the last call, the first time everything. Cheap if there are none."""
        if not self._logs or len(metrics.values) == self._told:
            return
        new = list(itertools.islice(metrics.values.items(), self._told, None))
        self._told = len(metrics.values)
        for iteration in sorted({iteration for (_, iteration), _ in new}):
            values = {name: value for (name, at), value in new if at == iteration}
            for name, log in list(self._logs.items()):
                with self._surviving(name):
                    log.add(iteration, values)

    def finish(self) -> None:
        """Pass on the results of the complete run, and record that its loggers have received everything."""
        manifest = self._run.read_manifest()
        if manifest is None or not self._logs:
            return
        metrics = self._run.metrics()
        self.tell(metrics)
        own = set(metrics.names())
        results = {name: value for name, value in manifest.results.items() if value is not None and name not in own}
        last = max((iteration for _, iteration in metrics.values), default=0)
        for name, log in list(self._logs.items()):
            with self._surviving(name):
                log.finish(last, results)
                log.close()
                del self._logs[name]
                write_atomically(_folder(self._run, LOGGERS.find(name)) / _TOLD, _all_of(name, manifest))

    def close(self) -> None:
        """End the logs."""
        for name, log in list(self._logs.items()):
            with self._surviving(name):
                log.close()
        self._logs.clear()

    def _begun(self, name: str) -> Log:
        logger, options = LOGGERS.match(name)
        folder = _folder(self._run, logger)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _TOLD).unlink(missing_ok=True)
        location = self._run.location
        logged = LoggedRun(
            location=str(location),
            digest=location.digest,
            replicate=location.replicate,
            hyperparameters=flat_hyperparameters(self._run.record()),
            folder=folder,
        )
        return returned(logger.begin(logged, **options), Log, logger.begin, logger)

    @contextlib.contextmanager
    def _surviving(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            log = self._logs.pop(name, None)
            why = next(iter(str(error).splitlines()), "") or type(error).__name__
            if LOGGERS.find(name).plugin is not None and not isinstance(error, OpenPruneError):
                why = f"{place_of_error(error)}: {why}"
            self._say(f"The logger {name} failed; the run {short_address(self._run)} is not affected by it. ({why})")
            if log is not None:
                with contextlib.suppress(Exception):
                    log.close()


@contextlib.contextmanager
def following(run: Run, names: Sequence[str], say: Callable[[str], None]) -> Iterator[Follower]:
    """Yield a Follower of a run, whose lock is held; its logs are closed at the end."""
    follower = Follower(run, names, say)
    try:
        yield follower
    finally:
        follower.close()


def catch_up(run: Run, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Pass a complete run to the loggers that have not received all of it. Failures are only reported."""
    try:
        manifest = run.read_manifest()
        if manifest is None or all(_is_told(run, name, manifest) for name in names):
            return
        with run.locked(say, wait=False):
            missing = [name for name in names if not _is_told(run, name, manifest)]
            with following(run, missing, say) as follower:
                follower.finish()
    except (OpenPruneError, OSError) as error:
        say(f"{run} was not logged. {error}")


def _folder(run: Run, logger: Logger) -> Path:
    return run.location.under(logger.folder(run.root))


def _is_told(run: Run, name: str, manifest: Manifest) -> bool:
    try:
        return (_folder(run, LOGGERS.find(name)) / _TOLD).read_bytes() == _all_of(name, manifest)
    except OSError:
        return False


def _all_of(name: str, manifest: Manifest) -> bytes:
    """Return the content of _TOLD after a logger, by its whole name, has received everything of a manifest."""
    metrics = manifest.files.get(METRICS)
    known = {"logger": name, METRICS: metrics and metrics.sha256, "results": manifest.results}
    return json.dumps(known, sort_keys=True).encode()
