"""Reading: what two readers, each without knowing model, dtype or score, say of a sample of real outputs.

``data/hand-labels.csv`` has the columns ``id``, ``reader1``, ``reader2`` and ``note``; ``data/README.md``
tells readers what to look at. An output on which the two differ is disputed, and counts as neither.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

LABELS = Path(__file__).parent / "data" / "hand-labels.csv"
CLASSES = ("healthy", "loop", "nonsense", "other-broken", "doubtful")
BROKEN = frozenset({"loop", "nonsense", "other-broken"})
DISPUTED = "disputed"


@dataclass(frozen=True, slots=True)
class Reading:
    """What both readers say of one output."""

    id: str
    """Of the sheet; see `RealOutput.reading_id`."""
    reader1: str
    reader2: str
    note: str = ""

    @property
    def merged(self) -> str:
        """The label both give, or ``disputed``."""
        return self.reader1 if self.reader1 == self.reader2 else DISPUTED


def read_labels(file: Path = LABELS) -> list[Reading]:
    """Return the hand labels, none before they are there.

    Raises ValueError for a label that is none of `CLASSES`.
    """
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        readings = [Reading(r["id"], r["reader1"], r["reader2"], r["note"]) for r in csv.DictReader(lines)]
    for reading in readings:
        if unknown := {reading.reader1, reading.reader2} - set(CLASSES):
            raise ValueError(f"{file}: {reading.id} is labelled {', '.join(unknown)}, none of {CLASSES}")
    return readings


def disagreements(readings: Iterable[Reading]) -> list[Reading]:
    return [reading for reading in readings if reading.merged == DISPUTED]


def kappa(readings: Sequence[Reading]) -> float:
    """Return Cohen's kappa of the two readers over all classes: 1 for agreement, 0 for chance's.

    (p - e) / (1 - e), with p the share on which they agree and e what their own shares of each class
    would give by chance (Cohen 1960). NaN if chance explains everything: both use one class alone.
    """
    return _kappa([(reading.reader1, reading.reader2) for reading in readings])


def kappa_broken(readings: Sequence[Reading]) -> float:
    """Return Cohen's kappa on the one question whether an output is broken."""
    return _kappa([(reading.reader1 in BROKEN, reading.reader2 in BROKEN) for reading in readings])


def _kappa(pairs: Sequence[tuple[object, object]]) -> float:
    n = len(pairs)
    first, second = Counter(one for one, _ in pairs), Counter(two for _, two in pairs)
    agreed = sum(one == two for one, two in pairs) / n
    chance = sum(first[label] * second[label] for label in first) / n**2
    return (agreed - chance) / (1 - chance) if chance < 1 else float("nan")
