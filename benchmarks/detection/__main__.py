"""The detection benchmark's commands: ``PYTHONPATH=benchmarks python -m detection COMMAND``.

``all`` builds the corpus, evaluates both halves, measures speed, and writes
``docs/detection-results.md``, ``docs/detectors/figures.md``, ``docs/detection-speed.md`` and the plots in
``docs/detection/``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from detection import speed
from detection.corpus import HALVES, Half
from detection.detector_pages import figures
from detection.evaluate import Result, evaluate, judge_documents, read_evaluation, write_evaluation
from detection.report import report, summary
from detection.tokenizers import load
from pytest_kvcache.errors import UsageError
from pytest_kvcache.files import write_atomically

CORPUS = Path(".kvcache/detection")
DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="detection", description="The detection benchmark.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--corpus", type=Path, default=CORPUS, metavar="DIR", help="default: %(default)s")
    half = argparse.ArgumentParser(add_help=False)
    half.add_argument("--half", choices=HALVES, default="test", help="default: %(default)s")

    def add(name: str, run: object, text: str, *more: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, parents=[shared, *more])
        command.set_defaults(run=run)
        return command

    add("build", build, "Fetch the sources and build both halves of the corpus.")
    add("fit", fit_weights, "Fit the weights of near-loops on the tuning half, and print them.")
    look = add("evaluate", look_at_half, "Look at every document of a half and keep what is found.", half)
    look.add_argument("--quick", action="store_true", help="without the published rules; nothing is kept")
    look.add_argument("--kind", help="one kind of document only; quick")
    look.add_argument("--misses", action="store_true", help="list false alarms and missed damage")
    add("report", write_report, "Write the tables of the last evaluation; tuning half: print them.", half)
    quick = add("speed", time_it, "Measure tokens per second and the scaling curve.")
    quick.add_argument("--record", action="store_true", help="write docs/detection-speed.md")
    add("plots", write_plots, "Draw the last evaluation and the last recorded speed.")
    add("all", do_all, "Do all of this, for both halves.")
    return parser


def build(options: argparse.Namespace) -> None:
    from detection.damage import build_damaged
    from detection.healthy import build_healthy

    build_healthy(options.corpus)
    build_damaged(options.corpus)


def fit_weights(options: argparse.Namespace) -> None:
    from detection.fit import fit

    fit(options.corpus)


def look_at_half(options: argparse.Namespace) -> None:
    began = time.monotonic()
    decode = load(options.corpus).decode
    if options.quick or options.kind:
        results = list(
            judge_documents(options.corpus, options.half, kind=options.kind, peers={}, decode=decode)
        )
    else:
        evaluation = evaluate(options.corpus, options.half, decode)
        write_evaluation(options.corpus, evaluation)
        results = [*evaluation.documents]
    if not results:
        what = f"of kind {options.kind!r} " if options.kind else ""
        raise UsageError(f"no documents {what}in {options.corpus / options.half}: run `build` first")
    print(summary(results))
    if options.misses:
        print(*_mistakes(results), sep="\n")
    print(f"{len(results):,} documents in {time.monotonic() - began:.0f} s", file=sys.stderr)


def write_report(options: argparse.Namespace) -> None:
    evaluation = read_evaluation(options.corpus, options.half)
    pages = {
        "detection-results.md": report(evaluation),
        "detectors/figures.md": figures(evaluation, speed.recorded_speed(options.corpus)),
    }
    for name, page in pages.items():
        if options.half == "tuning":
            print(page)
        else:
            _write(name, page)


def time_it(options: argparse.Namespace) -> None:
    measured = speed.measure(options.corpus)
    page = speed.tables(measured)
    print(page)
    if options.record:
        speed.write_speed(options.corpus, measured)
        _write("detection-speed.md", page)


def write_plots(options: argparse.Namespace) -> None:
    from detection import detector_plots, plots

    results = read_evaluation(options.corpus, "test").documents
    drawn = plots.draw(results, speed.read_speed(options.corpus))
    drawn |= detector_plots.draw(results, detector_plots.scores_of(options.corpus, "test"))
    for name, svg in drawn.items():
        _write(f"detection/{name}.svg", svg)


def do_all(options: argparse.Namespace) -> None:
    build(options)
    half: Half
    for half in HALVES:
        look_at_half(
            argparse.Namespace(corpus=options.corpus, half=half, quick=False, kind=None, misses=False)
        )
    time_it(argparse.Namespace(corpus=options.corpus, record=True))
    write_report(argparse.Namespace(corpus=options.corpus, half="test"))
    write_plots(options)


def _mistakes(results: Sequence[Result]) -> Iterator[str]:
    """Yield a line for each false alarm and each miss, control characters escaped."""
    for result in results:
        if result.is_healthy and result.signals:
            found = "; ".join(
                f"{s.severity} {s.kind} [{s.start}, {s.end}) {s.evidence}" for s in result.signals
            )
            yield f"FALSE ALARM {result.id}: {found}\n    {result.excerpt}"
        elif not result.is_healthy and not result.signals:
            yield f"MISS {result.id}: {result.damage}\n    {result.excerpt}"


def _write(name: str, text: str) -> None:
    write_atomically(DOCS / name, text.encode(), mode=0o644)
    print(f"wrote docs/{name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
