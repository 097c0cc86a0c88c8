"""What serving conditions cost a healthy engine, from finished runs of the full tier. It starts no engine.

    python benchmarks/conditions.py RUN [RUN ...]

A RUN is a run store (``.kvcache/runs/TIME``, or below ``build/matrix``). For each condition: how many texts
were followed in all runs, the highest mean of a run, and the worst single text.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pytest_kvcache.conditions import BATCH, SHIPPED
from pytest_kvcache.measures.divergence import ScoreComparison, divergence
from pytest_kvcache.plan import twin
from pytest_kvcache.records import EngineSpec, ScoreSet
from pytest_kvcache.score_files import read_scores

Texts = tuple[ScoreComparison, ...]
SERVED_OTHERWISE = tuple(condition for condition in SHIPPED.values() if condition.engine_args)


def main() -> int:
    parser = argparse.ArgumentParser(description="Show what serving conditions changed in finished runs.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run store")
    found: dict[str, list[Texts]] = defaultdict(list)
    for run in parser.parse_args().runs:
        for name, texts in _compared(run):
            found[name].append(texts)
    if not found:
        sys.exit("no run followed a text under a condition: give run stores of tests with conditions")
    print("| condition | runs | texts | mean KLD of the worst run | worst text: KLD | delta NLL |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, runs in sorted(found.items()):
        worst = max(fmean(text.kld for text in texts) for texts in runs)
        every = [text for texts in runs for text in texts]
        kld, delta = max(text.kld for text in every), max(text.delta_nll for text in every)
        print(f"| `{name}` | {len(runs)} | {len(every)} | {worst:.4f} | {kld:.4f} | {delta:.3f} |")
    return 0


def _compared(run: Path) -> Iterator[tuple[str, Texts]]:
    """Yield each condition of a run with what it changed in the texts of one set."""
    files = sorted(run.glob("engines/*/followed-*.scores"))
    followed = [entry for path in files if (entry := read_scores(path))]
    by_engine = {(_texts(entry, entry.spec), entry.manner): entry for entry in followed}
    twins = {twin(entry.spec, condition) for entry in followed for condition in SERVED_OTHERWISE}
    for plain in (entry for entry in followed if entry.manner == BATCH.manner and entry.spec not in twins):
        for condition in SHIPPED.values():
            there = by_engine.get((_texts(plain, twin(plain.spec, condition)), condition.manner))
            if there not in (None, plain):
                yield condition.name, divergence(there, plain).texts


def _texts(entry: ScoreSet, spec: EngineSpec) -> tuple[EngineSpec, str, str]:
    """Return an engine, and the texts of an entry that it followed."""
    return spec, entry.prompt_set.key, entry.text_of


if __name__ == "__main__":
    sys.exit(main())
