"""Fits the weights of near-loops on the tuning half: logistic regression of loops against healthy text.

    python -m detection fit --corpus DIR

prints the tables that stand in ``pytest_kvcache/measures/near_loops.py``, and the false alarms and
recall on the same half that thresholds give.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detection.corpus import Document, read_documents
from pytest_kvcache.measures.near_loops import FEATURES, features, find_repetitions
from pytest_kvcache.measures.views import View

Floats = npt.NDArray[np.float64]

FALSE_ALARMS = (2, 4, 8, 16, 32)
"""Healthy documents among all for which thresholds are printed."""
STEPS = 60

Rows = dict[str, dict[str, list[tuple[float, ...]]]]
"""By document id and sequence, the features of each repetition."""


def fit(corpus: Path) -> None:
    """Print weights and thresholds for both tables."""
    healthy = list(read_documents(corpus, "tuning", "healthy"))
    loops = list(read_documents(corpus, "tuning", "damaged", "loop"))
    numbered = list(read_documents(corpus, "tuning", "damaged", "numbered-loop"))
    paraphrased = list(read_documents(corpus, "tuning", "damaged", "paraphrase-loop"))
    rows = {document.id: _rows(document) for document in (*healthy, *loops, *numbered, *paraphrased)}
    for table, damaged, names in (
        ("WEIGHTS", loops, ("words", "tokens")),
        ("WEIGHTS_OF_NUMBERED", numbered, ("numbered",)),
    ):
        weights = _logistic(_pool(rows, healthy, names), _pool(rows, damaged, names))
        print(f"{table} = ({', '.join(f'{weight:.2f}' for weight in weights)})")
        print("  " + ", ".join(f"{name} {w:+.2f}" for name, w in zip(FEATURES, weights, strict=True)))
        surest = {i: _surest(rows[i], names, np.round(weights, 2)) for i in rows}
        _print_thresholds(surest, healthy, (*loops, *numbered, *paraphrased))


def _rows(document: Document) -> dict[str, list[tuple[float, ...]]]:
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for alignment, sequence in find_repetitions(View(document.text, document.token_ids)):
        rows[sequence.kind].append(features(alignment, sequence))
    return rows


def _pool(rows: Rows, documents: Iterable[Document], names: Sequence[str]) -> Floats:
    return np.array([row for d in documents for name in names for row in rows[d.id].get(name, ())])


def _logistic(negative: Floats, positive: Floats) -> Floats:
    """Return the weights by Newton's method, with a ridge of one on standardised features."""
    raw = np.concatenate([negative, positive])
    wanted = np.concatenate([np.zeros(len(negative)), np.ones(len(positive))])
    centre, scale = raw.mean(0), raw.std(0) + 1e-9
    centre[0], scale[0] = 0.0, 1.0
    data = (raw - centre) / scale
    weights = np.zeros(data.shape[1])
    for _ in range(STEPS):
        share = 1 / (1 + np.exp(-np.clip(data @ weights, -30, 30)))
        curvature = (data * (share * (1 - share))[:, None]).T @ data + np.eye(len(weights))
        weights -= np.linalg.solve(curvature, data.T @ (share - wanted) + weights)
    weights = np.asarray(weights / scale)
    weights[0] -= float((weights * centre)[1:].sum())
    return weights


def _surest(rows: dict[str, list[tuple[float, ...]]], names: Sequence[str], weights: Floats) -> float:
    return max((float(weights @ row) for name in names for row in rows.get(name, ())), default=-np.inf)


def _print_thresholds(
    surest: dict[str, float], healthy: Sequence[Document], damaged: Sequence[Document]
) -> None:
    groups: dict[str, list[float]] = defaultdict(list)
    for document in damaged:
        damage = document.damage
        assert damage is not None
        noise = f" {damage.noise:.0%}" if damage.kind == "loop" else ""
        groups[damage.generator + noise].append(surest[document.id])
    order = sorted(healthy, key=lambda document: -surest[document.id])
    for alarms in FALSE_ALARMS:
        at = surest[order[alarms].id]
        recall = ", ".join(f"{name} {np.mean(np.array(v) > at):.3f}" for name, v in groups.items())
        print(f"  above {at:.2f}: {alarms} of {len(healthy)} healthy; {recall}")
    print("  surest healthy: " + ", ".join(document.id for document in order[: max(FALSE_ALARMS) // 2]))
