"""Plots of single detectors: what one signal finds, against noise, length of the damage, or its threshold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detection.corpus import Half
from detection.detector_pages import of_signal
from detection.document_scores import scored_documents
from detection.drawing import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, STYLE, panels, to_svg
from detection.evaluate import Result
from detection.plots import LENGTHS
from detection.rates import Rule, damaged_tokens, fails_or_warns, share
from detection.real import documents
from pytest_kvcache.measures.improbability import (
    PROOF,
    PROOF_WINDOW,
    SHORTEST,
    SUSPICION,
    SUSPICION_WINDOW,
    mean_surprises,
)
from pytest_kvcache.records import Score

BY_LENGTH: Mapping[str, tuple[str, ...]] = {
    "blanks": ("blanks",),
    "special-tokens": ("special-tokens",),
    "soup": ("soup", "small-soup"),
    "mixed-scripts": ("mixed-scripts", "script-flip"),
    "mojibake": ("mojibake", "replacement"),
    "language-flip": ("language-flip",),
}
"""Pages with a curve over the length of the damage, and their signals, named as the damage is."""
FEWEST = 10
"""Documents that a point of a curve stands for, at least."""
THRESHOLDS = np.arange(0, 8.1, 0.2)
GROUPS = {
    "outputs, healthy": (GREEN, "-"),
    "outputs, nonsense": (RED, "-"),
    "outputs, loops": (ORANGE, "-"),
    "documents, healthy": (GREEN, ":"),
    "word salad": (PURPLE, "--"),
    "soup": (BLUE, "--"),
    "corruption": (BLACK, "--"),
}
"""Texts with a score, with colour and line. Of outputs, those that readers have labelled."""


def draw(results: Sequence[Result], scores: Mapping[str, Sequence[Score]]) -> dict[str, str]:
    """Return the plots as SVG texts, by name; ``scores`` by the names of `GROUPS`."""
    with mpl.rc_context(STYLE):
        return {
            "loop-by-noise": _by_noise(results, "loop", ("loop", "near-loop")),
            "corruption-by-noise": _by_noise(results, "corruption", ("corruption",)),
            **{f"{page}-by-length": _by_length(results, kinds) for page, kinds in BY_LENGTH.items()},
            "improbable-by-threshold": _by_threshold(scores),
        }


def scores_of(corpus: Path, half: Half) -> dict[str, list[Score]]:
    """Return the baseline's scores of documents and of outputs that readers have labelled."""
    scores: dict[str, list[Score]] = defaultdict(list)
    for document, _, score in scored_documents(corpus, half):
        scores["documents, healthy" if document.is_healthy else document.kind.replace("-", " ")].append(score)
    names = {"loop": "outputs, loops"}
    for real in documents(half):
        if real.hand:
            scores[names.get(real.hand, f"outputs, {real.hand}")].append(real.score)
    return {name: scores[name] for name in GROUPS if name in scores}


def _by_noise(results: Sequence[Result], damage: str, signals: Sequence[str]) -> str:
    figure = Figure(figsize=(3.0 * len(signals) + 2, 2.6))
    drawn = panels(figure, [f"signal {signal}" for signal in signals])
    groups: dict[float, list[Result]] = defaultdict(list)
    for result in results:
        if result.kind == damage and result.damage and result.damage.noise is not None:
            groups[100 * result.damage.noise].append(result)
    ordered = sorted(groups.items())
    for axes, signal in zip(drawn, signals, strict=True):
        _curves(axes, signal, ordered)
        axes.set_xticks([noise for noise, _ in ordered])
    figure.supxlabel("noise, % of tokens", fontsize=9)
    return to_svg(figure, drawn[0])


def _by_length(results: Sequence[Result], kinds: Sequence[str]) -> str:
    figure = Figure(figsize=(3.0 * len(kinds) + 2, 2.6))
    drawn = panels(figure, kinds)
    for axes, kind in zip(drawn, kinds, strict=True):
        damaged = [result for result in results if result.kind == kind and result.damage]
        _curves(axes, kind, list(_classes(damaged)))
        axes.set_xlim(left=0)
    figure.supxlabel("damage, tokens (mean of each class)", fontsize=9)
    return to_svg(figure, drawn[0])


def _classes(damaged: Sequence[Result]) -> Iterator[tuple[float, list[Result]]]:
    for low, high in pairwise(LENGTHS):
        group = [result for result in damaged if low <= damaged_tokens(result) < high]
        if len(group) >= FEWEST:
            yield mean(map(damaged_tokens, group)), group


def _curves(axes: Axes, signal: str, groups: Sequence[tuple[float, list[Result]]]) -> None:
    """Draw what one signal finds, with its 95 % interval, and what any does."""
    rules: dict[str, tuple[Rule, str, str]] = {
        "this signal, fail": (of_signal(signal, "fail"), RED, "-"),
        "this signal": (of_signal(signal), RED, ":"),
        "any signal": (fails_or_warns, BLUE, "--"),
    }
    places = [place for place, _ in groups]
    for name, (rule, colour, line) in rules.items():
        found = [each for _, group in groups if (each := share(group, rule))]
        values = [100 * each.value for each in found]
        axes.plot(places, values, color=colour, linestyle=line, marker="o", markersize=3, label=name)
        if line == "-":
            low, high = [100 * each.low for each in found], [100 * each.high for each in found]
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _by_threshold(scores: Mapping[str, Sequence[Score]]) -> str:
    figure = Figure(figsize=(8.5, 2.8))
    rules = (
        ("fail", PROOF_WINDOW, PROOF_WINDOW, PROOF),
        ("warn", SUSPICION_WINDOW, SHORTEST, SUSPICION),
    )
    drawn = panels(figure, [f"{name}: any {window} tokens" for name, window, _, _ in rules])
    for axes, (_, window, shortest, threshold) in zip(drawn, rules, strict=True):
        for name, group in scores.items():
            colour, line = GROUPS[name]
            worst = np.array([_worst(score, window, shortest) for score in group])
            shares = [100 * float(np.mean(worst >= at)) for at in THRESHOLDS]
            axes.plot(THRESHOLDS, shares, color=colour, linestyle=line, label=f"{name} ({len(group)})")
        axes.axvline(threshold, color=BLACK, linewidth=0.8, linestyle=":")
    figure.supxlabel("threshold, nats (dotted: the one in use)", fontsize=9)
    return to_svg(figure, drawn[0])


def _worst(score: Score, window: int, shortest: int) -> float:
    """Return the highest mean surprise in a window, or in a shorter output that is long enough."""
    tokens = len(score.token_ids)
    return float(mean_surprises(score, min(window, tokens)).max()) if tokens >= shortest else 0.0
