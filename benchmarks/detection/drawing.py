"""Drawing: what all plots have in common, down to small SVG files that come out equal, byte by byte."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def panels(figure: Figure, titles: Sequence[str]) -> Sequence[Axes]:
    """Return panels side by side that share an axis of percent."""
    drawn: Sequence[Axes] = figure.subplots(1, max(1, len(titles)), sharey=True, squeeze=False)[0]
    for axes, title in zip(drawn, titles, strict=False):
        axes.set_title(title, fontsize=9)
        axes.set_ylim(-3, 103)
    drawn[0].set_ylabel("found, %")
    return drawn[: len(titles)]


def to_svg(figure: Figure, labelled: Axes | None) -> str:
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
