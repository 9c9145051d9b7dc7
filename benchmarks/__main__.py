"""`make bench`: every benchmark, one after another, as a table with its machine."""

from __future__ import annotations

import importlib
import pkgutil

import benchmarks
from benchmarks.timing import machine


def main() -> None:
    """Run the `rows` function of each module named bench_*."""
    print(machine())
    for found in pkgutil.iter_modules(benchmarks.__path__):
        if found.name.startswith("bench_"):
            for row in importlib.import_module(f"benchmarks.{found.name}").rows():
                print(f"{row.what:<60}{row.ratio:8.3f}   {row.aim:<22}{row.detail}", flush=True)


if __name__ == "__main__":
    main()
