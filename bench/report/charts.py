"""Figures as charts: SVG that takes its ink from the page around it, so that it is legible on light and dark.

matplotlib draws. Text stays text; what is drawn in `_INK` becomes `currentColor`,
and no colour beside it is too near to white or to black.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import StrMethodFormatter

from bench.errors import BenchError
from bench.report import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from bench.figures import Figure

_INK = "#0f0e0d"
_COLOURS = {
    "gateway": "#e8590c",
    "haproxy": "#1c7ed6",
    "nginx": "#2f9e44",
    "envoy": "#ae3ec9",
    "stunnel": "#7a828a",
    "hitch": "#a67c00",
    "erlang": "#d6336c",
}
_OTHERS = ("#1c7ed6", "#2f9e44", "#ae3ec9", "#7a828a", "#a67c00", "#d6336c", "#0c8599")
_MARKERS = "osD^vPX*"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": "#808080",
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
# Narrow, so that on a phone it need not be scaled to where nobody can read it. Inches.
_WIDTH = 5.0
_LINES_HEIGHT = 3.6
_BAR_HEIGHT = 0.3
_BARS_BESIDE = 0.9
# Where the highest value is so many times the lowest, a linear axis would show one bar.
_LOGARITHMIC_FROM = 15.0
_ROOM_FOR_VALUES = 1.25


@dataclass(frozen=True)
class _Bar:
    label: str
    colour: str
    strength: float
    figure: Figure


def draw(figures: Sequence[Figure], *, curve: bool, identity: str) -> str:
    """One quantity as an SVG element; `identity` keeps its ids apart from those of other charts of the page.

    Raises:
        BenchError: there is nothing to draw.
    """
    if not figures:
        raise BenchError("a chart needs a figure")
    with mpl.rc_context(_STYLE | {"svg.hashsalt": identity}):
        drawing = _lines(figures) if curve and len(tables.conditions(figures)) > 1 else _bars(figures)
        content = io.StringIO()
        drawing.savefig(content, format="svg", transparent=True, bbox_inches="tight")
    return _element(content.getvalue(), identity)


def _lines(figures: Sequence[Figure]) -> Drawing:
    drawing = Drawing(figsize=(_WIDTH, _LINES_HEIGHT))
    axes = drawing.subplots()
    order = tables.conditions(figures)
    for at, server in enumerate(tables.servers(figures)):
        own = [figure for figure in figures if figure.server == server]
        own.sort(key=lambda figure: order.index(figure.parameter))
        places = [order.index(figure.parameter) for figure in own]
        style = {"color": _colour(server, at), "marker": _MARKERS[at % len(_MARKERS)], "markersize": 5}
        width = 2.4 if at == 0 else 1.4
        axes.plot(places, [figure.value for figure in own], label=server, linewidth=width, **style)  # type: ignore[arg-type]
    labels = {figure.parameter: _short(figure) for figure in figures}
    axes.set_xticks(range(len(order)), [labels[parameter] for parameter in order])
    axes.set_xlabel(order[-1].rpartition(" ")[2])
    _scale(axes, "y", figures)
    axes.set_ylabel(figures[0].unit)
    axes.grid(visible=True, axis="y")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4)
    return drawing


def _bars(figures: Sequence[Figure]) -> Drawing:
    bars = _in_order(figures)
    drawing = Drawing(figsize=(_WIDTH, _BARS_BESIDE + _BAR_HEIGHT * len(bars)))
    axes = drawing.subplots()
    for at, bar in enumerate(bars):
        value, rounds = bar.figure.value, bar.figure.rounds
        axes.barh(at, value, height=0.75, color=bar.colour, alpha=bar.strength)
        axes.plot([min(rounds), max(rounds)], [at, at], color=_INK, linewidth=1.2)
        axes.annotate(
            tables.number(value), (max(rounds), at), (4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.invert_yaxis()
    _scale(axes, "x", figures)
    axes.set_xlabel(figures[0].unit + (" (logarithmic)" if _is_wide(figures) else ""))
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
    return drawing


def _in_order(figures: Sequence[Figure]) -> list[_Bar]:
    """By server, then by condition, which is fainter the later it comes; named by what tells bars apart."""
    names, order = tables.servers(figures), tables.conditions(figures)
    bars = []
    for at, name in enumerate(names):
        own = {figure.parameter: figure for figure in figures if figure.server == name}
        for number, parameter in enumerate(one for one in order if one in own):
            both = f"{name}, {_short(own[parameter])}" if len(order) > 1 else name
            label = parameter if len(names) == 1 and parameter else both
            strength = 0.9 if number % 2 == 0 else 0.55
            bars.append(_Bar(label, _colour(name, at), strength, own[parameter]))
    return bars


def _scale(axes: Axes, axis: str, figures: Sequence[Figure]) -> None:
    """Logarithmic where it has to be; else from zero, with room for the values' text."""
    set_scale, set_limit = (
        (axes.set_xscale, axes.set_xlim) if axis == "x" else (axes.set_yscale, axes.set_ylim)
    )
    highest = max(max(figure.rounds) for figure in figures)
    if _is_wide(figures):
        set_scale("log")
        (axes.xaxis if axis == "x" else axes.yaxis).set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        set_limit(min(figure.value for figure in figures) / 2, highest * (6 if axis == "x" else 2))
    else:
        set_limit(0, highest * _ROOM_FOR_VALUES if highest > 0 else 1)


def _is_wide(figures: Sequence[Figure]) -> bool:
    values = [figure.value for figure in figures]
    return min(values) > 0 and max(values) / min(values) > _LOGARITHMIC_FROM


def _colour(server: str, at: int) -> str:
    return _COLOURS["gateway"] if at == 0 else _COLOURS.get(server, _OTHERS[(at - 1) % len(_OTHERS)])


def _short(figure: Figure) -> str:
    """A condition for an axis: 10k, 1M; its name where it is not so many of something."""
    if not figure.at or not figure.parameter[:1].isdigit():
        return figure.parameter
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if figure.at >= size:
            return f"{figure.at / size:g}{letter}"
    return f"{figure.at:g}"


def _element(document: str, identity: str) -> str:
    """The svg element of a document, fit to stand beside others in HTML."""
    text = document[document.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", text)
    text = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", text)
    text = re.sub(r'\bid="', f'id="{identity}-', text)
    text = re.sub(r'href="#', f'href="#{identity}-', text)
    text = text.replace("url(#", f"url(#{identity}-")
    return text.replace(_INK, "currentColor")
