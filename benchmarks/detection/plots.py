"""Plots: the evaluation's curves as small SVG files that come out equal, byte by byte, each time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "detection",
    "font.family": "sans-serif",
    "font.sans-serif": ["sans-serif", "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "legend.frameon": False,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}
# Okabe and Ito's colours, which stay apart for all kinds of colour vision.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
GREY = "#bbbbbb"
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
    panels = _panels(figure, [f"period {band}" for band in PERIOD_BANDS])
    for axes, band in zip(panels, PERIOD_BANDS, strict=True):
        for name, rule in _shown():
            shares = [share(loops(results, noise, band), rule) for noise in noises]
            _curve(axes, name, [100 * noise for noise in noises], shares)
        axes.set_xticks([100 * noise for noise in noises])
    figure.supxlabel("noise, % of tokens", fontsize=9)
    return _svg(figure, panels[0])


def _recall_by_period(results: Sequence[Result]) -> str:
    noises = _noises(results)
    figure = Figure(figsize=(9, 2.8))
    panels = _panels(figure, [f"{noise:.0%} noise" for noise in noises])
    places = list(range(len(PERIOD_BANDS)))
    for axes, noise in zip(panels, noises, strict=True):
        for name, rule in _shown():
            _curve(axes, name, places, [share(loops(results, noise, band), rule) for band in PERIOD_BANDS])
        axes.set_xticks(places, list(PERIOD_BANDS))
    figure.supxlabel("tokens of the repeated unit", fontsize=9)
    return _svg(figure, panels[0] if len(panels) else None)


def _recall_by_length(results: Sequence[Result]) -> str:
    noises = _noises(results)
    figure = Figure(figsize=(9, 2.8))
    panels = _panels(figure, [f"{noise:.0%} noise" for noise in noises])
    for axes, noise in zip(panels, noises, strict=True):
        group = loops(results, noise)
        for name, rule in _shown():
            classes = [[r for r in group if low <= damaged_tokens(r) < high] for low, high in _classes()]
            _curve(axes, name, [low for low, _ in _classes()], [share(c, rule) for c in classes])
    figure.supxlabel("length of the loop, tokens (at least)", fontsize=9)
    return _svg(figure, panels[0] if len(panels) else None)


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
    return _svg(figure, axes)


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
    return _svg(figure, axes)


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


def _panels(figure: Figure, titles: Sequence[str]) -> Sequence[Axes]:
    """Return panels side by side that share an axis of percent."""
    panels: Sequence[Axes] = figure.subplots(1, max(1, len(titles)), sharey=True, squeeze=False)[0]
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title, fontsize=9)
        axes.set_ylim(-3, 103)
    panels[0].set_ylabel("found, %")
    return panels[: len(titles)]


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


def _svg(figure: Figure, labelled: Axes | None) -> str:
    """Return a figure as SVG, the legend of one of its panels beside it."""
    if labelled is not None:
        handles, labels = labelled.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=8)
    figure.set_layout_engine("constrained")
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return _shortened(stream.getvalue())


def _shortened(svg: str) -> str:
    """Round coordinates, name styles once, and leave out what shows nothing: groups, clips, metadata."""
    svg = re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", ">\n<")
    svg = re.sub(
        r" transform=\"rotate\(-0 [^\"]*\"| clip-path=\"[^\"]*\"|<!--.*?-->|(?<=<g) id=\"[^\"]*\""
        r"|<metadata>.*?</metadata>\n|<defs>\n<clipPath.*</clipPath>\n</defs>\n|<!DOCTYPE.*?>\n",
        "",
        svg,
        flags=re.DOTALL,
    )
    if "<g " not in svg:
        svg = re.sub(r"</?g/?>\n", "", svg)
    styles = dict.fromkeys(re.findall(r" style=\"([^\"]*)\"", svg))
    rules = []
    for number, style in enumerate(styles):
        svg = svg.replace(f' style="{style}"', f' class="s{number}"')
        rules.append(f".s{number}{{{style}}}")
    return svg.replace("</style>", "".join(rules) + "</style>", 1).strip() + "\n"
