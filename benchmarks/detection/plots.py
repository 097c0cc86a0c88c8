"""Plots: the evaluation's curves, ours beside the published rules'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detection.drawing import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, STYLE, panels, to_svg
from detection.evaluate import Result
from detection.inputs import HEALTHY
from detection.peers import PEERS
from detection.rates import (
    PERIOD_BANDS,
    RULES,
    Rule,
    by_key,
    damaged_tokens,
    loops,
    share,
)
from detection.speed import SIZES, Speed
from pytest_kvcache.measures.paired import Interval

SHOWN: dict[str, tuple[str, str, str]] = {
    "fail": (RED, "o", "-"),
    "fail or warn": (RED, "o", ":"),
    "vLLM 1–20 × 4": (BLUE, "s", "-"),
    "vLLM 4–128 × 4": (SKY, "s", "--"),
    "gemini-cli": (GREEN, "^", "-"),
    "zlib": (ORANGE, "D", "-"),
    "Gopher": (PURPLE, "v", "-"),
    "seq-rep-4": (BLACK, "x", "--"),
}
"""Rules that curves show, with colour, marker and line: the others lie between them."""
LENGTHS = (0, 16, 32, 64, 96, 128, 192, 256, 384, 1 << 20)
"""Bounds of the classes of loop lengths, in tokens."""


def draw(results: Sequence[Result], speed: Speed) -> dict[str, str]:
    """Return the plots as SVG texts, by name."""
    with mpl.rc_context(STYLE):
        return {
            "recall-by-noise": _recall_by_noise(results),
            "recall-by-period": _recall_by_period(results),
            "recall-by-length": _recall_by_length(results),
            "false-alarms": _false_alarms(results),
            "scaling": _scaling(speed),
        }


def _recall_by_noise(results: Sequence[Result]) -> str:
    noises = _noises(results)
    figure = Figure(figsize=(10, 2.8))
    drawn = panels(figure, [f"period {band}" for band in PERIOD_BANDS])
    for axes, band in zip(drawn, PERIOD_BANDS, strict=True):
        for name, rule in _shown():
            shares = [share(loops(results, noise, band), rule) for noise in noises]
            _curve(axes, name, [100 * noise for noise in noises], shares)
        axes.set_xticks([100 * noise for noise in noises])
    figure.supxlabel("noise, % of tokens", fontsize=9)
    return to_svg(figure, drawn[0])


def _recall_by_period(results: Sequence[Result]) -> str:
    noises = _noises(results)
    figure = Figure(figsize=(9, 2.8))
    drawn = panels(figure, [f"{noise:.0%} noise" for noise in noises])
    places = list(range(len(PERIOD_BANDS)))
    for axes, noise in zip(drawn, noises, strict=True):
        for name, rule in _shown():
            _curve(axes, name, places, [share(loops(results, noise, band), rule) for band in PERIOD_BANDS])
        axes.set_xticks(places, list(PERIOD_BANDS))
    figure.supxlabel("tokens of the repeated unit", fontsize=9)
    return to_svg(figure, drawn[0] if len(drawn) else None)


def _recall_by_length(results: Sequence[Result]) -> str:
    noises = _noises(results)
    figure = Figure(figsize=(9, 2.8))
    drawn = panels(figure, [f"{noise:.0%} noise" for noise in noises])
    for axes, noise in zip(drawn, noises, strict=True):
        group = loops(results, noise)
        for name, rule in _shown():
            classes = [[r for r in group if low <= damaged_tokens(r) < high] for low, high in _classes()]
            _curve(axes, name, [low for low, _ in _classes()], [share(c, rule) for c in classes])
    figure.supxlabel("length of the loop, tokens (at least)", fontsize=9)
    return to_svg(figure, drawn[0] if len(drawn) else None)


def _false_alarms(results: Sequence[Result]) -> str:
    groups = by_key((r for r in results if r.is_healthy), lambda result: (result.kind,))
    figure = Figure(figsize=(7, 1.2 + 0.19 * len(groups)))
    axes = figure.subplots()
    for name, rule in _shown():
        colour, marker, _ = SHOWN[name]
        shares = [100 * sum(map(rule, group)) / len(group) for _, group in groups]
        axes.plot(
            [max(value, 0.01) for value in shares],
            range(len(groups)),
            linestyle="none",
            marker=marker,
            color=colour,
            markerfacecolor="none" if name == "fail or warn" else colour,
            markersize=5,
            label=_legend(name),
        )
    axes.axvline(0.2, color=BLACK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(0.008, 110)
    axes.set_xticks([0.01, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    axes.set_yticks(range(len(groups)), [str(kind) for (kind,), _ in groups])
    axes.invert_yaxis()
    axes.set_xlabel("healthy documents with an alarm, % (none at the left edge; dotted: the aim)")
    return to_svg(figure, axes)


def _scaling(speed: Speed) -> str:
    figure = Figure(figsize=(6.5, 3.6))
    axes = figure.subplots()
    worst = max(speed.curves, key=lambda curve: _relative(curve.seconds)[-1]).name
    marked = {worst: RED, HEALTHY: BLUE}
    for curve in speed.curves:
        relative = _relative(curve.seconds)
        axes.plot(
            SIZES[: len(relative)],
            relative,
            color=marked.get(curve.name, GREY),
            marker="o",
            markersize=3,
            label=curve.name if curve.name in marked else None,
            zorder=3 if curve.name in marked else 2,
        )
    axes.plot([], [], color=GREY, label=f"{len(speed.curves) - len(marked)} other inputs")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axes.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.set_xlabel("tokens")
    axes.set_ylabel("time per token, relative to 1,000 tokens")
    return to_svg(figure, axes)


def _relative(seconds: Sequence[float]) -> list[float]:
    costs = [spent / size for spent, size in zip(seconds, SIZES, strict=False)]
    return [cost / costs[0] for cost in costs]


def _noises(results: Sequence[Result]) -> list[float]:
    damages = (result.damage for result in loops(results))
    return sorted({damage.noise for damage in damages if damage and damage.noise is not None})


def _classes() -> list[tuple[int, int]]:
    return list(pairwise(LENGTHS))


def _shown() -> Iterator[tuple[str, Rule]]:
    return ((name, RULES[name]) for name in SHOWN)


def _curve(axes: Axes, name: str, places: Sequence[float], shares: Sequence[Interval | None]) -> None:
    colour, marker, line = SHOWN[name]
    known = [(place, 100 * each.value) for place, each in zip(places, shares, strict=True) if each]
    axes.plot(
        [place for place, _ in known],
        [round(value, 1) for _, value in known],
        color=colour,
        marker=marker,
        linestyle=line,
        markersize=3.5,
        linewidth=1.8 if name == "fail" else 1.0,
        label=_legend(name),
    )


def _legend(name: str) -> str:
    return name if name in PEERS else f"ours, {name}"
