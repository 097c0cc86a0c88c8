"""The matrix's commands: ``PYTHONPATH=benchmarks python -m matrix [--plan | --page] [NAME ...]``.

Without an option it runs everything, keeps each run's outcomes in ``docs/matrix/results.json`` as soon as it
ends, and writes ``docs/matrix.md``. A NAME is a fault or the model of a control, and limits it to these.
``--plan`` shows the runs and starts nothing; ``--page`` writes the page from what is kept.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from matrix.catalogue import read_catalogue
from matrix.outcomes import keep, read_record, recorded
from matrix.page import PAGE, page
from matrix.runs import Run, all_runs, execute
from pytest_kvcache.files import write_atomically


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="matrix", description="Every fault beside the suite that catches it."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a fault, or the model of a control")
    parser.add_argument("--plan", action="store_true", help="show the runs and start nothing")
    parser.add_argument("--page", action="store_true", help="write the page from what is kept")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)
    catalogue = read_catalogue()
    known = {*(fault.name for fault in catalogue.fault), *(control.model for control in catalogue.control)}
    if unknown := sorted(set(options.names) - known):
        parser.error(
            f"{', '.join(unknown)}: no such fault or control (those are: {', '.join(sorted(known))})"
        )
    runs = all_runs(catalogue, options.names)
    if options.plan:
        _show(runs, options.workers)
        return
    for run in () if options.page else runs:
        seconds = execute(run, options.workers)
        keep(recorded(run, seconds, options.workers, run.directory))
    write_atomically(PAGE, page(catalogue, read_record()).encode())


def _show(runs: Sequence[Run], workers: int) -> None:
    for run in runs:
        print(f"{run.name}: {len(run.dtypes) + 1} engines, about {run.engine_minutes / workers:.0f} minutes")
        print(f"  {shlex.join(run.command(workers)[1:])}")
    total = sum(run.engine_minutes for run in runs)
    print(f"{total:.0f} engine minutes, about {total / workers:.0f} minutes with {workers} workers")


if __name__ == "__main__":
    main()
