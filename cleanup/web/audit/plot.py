"""Plots as SVG: without scripts, with the colours of both themes and of paper inside."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from cleanup.text.values import visible

if TYPE_CHECKING:
    from pygal.style import Style

# Shown at most this wide, in pixels; a phone gets the narrow one. Text stays above 11 px in both.
WIDE, NARROW = 900, 300
_TEXT = {WIDE: 15, NARROW: 13}
_HEIGHT = {WIDE: 300, NARROW: 240}
_LEGEND_ROW = 24
# What a line of the legend holds, in characters.
_LEGEND_TEXT = {WIDE: 40, NARROW: 26}
# Told apart by the colour-blind, and by lightness: (light theme and paper, dark theme). The last is for the rest.
COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#c77f00", "#f0b83c"),
    ("#00664b", "#2fbf94"),
    ("#b85c93", "#e59cc6"),
    ("#4a9fd6", "#2f86c8"),
    ("#8f3400", "#ff8a4d"),
    ("#6b736d", "#98a29b"),
)
_NOUGHTS = re.compile(r"\.0+ |(?<=\.\d)0+ ")
_GONE = {"script", "desc"}
_SVG = "{http://www.w3.org/2000/svg}"


class PlotKind(StrEnum):
    """Stacked columns, one bar for each series, or lines over days."""

    STACKED = "stacked"
    BARS = "bars"
    LINES = "lines"


@dataclass(frozen=True, kw_only=True)
class PlotSeries:
    """`values` are numbers, None for unknown, in the order of the labels; of lines they are (day, number)."""

    title: str
    values: Sequence[Any]
    dots: bool = False  # of lines: points without a line
    dashes: str = ""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """`labels` stand below stacked columns; for lines they are days with their names."""

    kind: PlotKind
    title: str
    series: Sequence[PlotSeries]
    say: Callable[[float], str]
    labels: Sequence[Any] = field(default_factory=tuple)
    highest: float | None = None


def draw(plot: Plot, *, narrow: bool = False) -> bytes:
    """Return the picture as an SVG document."""
    import pygal  # takes room and time that only pictures need

    width = NARROW if narrow else WIDE
    columns = 1 if narrow else 2
    rows, left_over = divmod(len(plot.series), columns)
    is_drawn = any(value if plot.kind is not PlotKind.LINES else True for each in plot.series for value in each.values)
    chart = getattr(pygal, _CHARTS[plot.kind])(
        width=width,
        height=_HEIGHT[width] + (rows + left_over) * _LEGEND_ROW,
        margin_bottom=6 + left_over * _LEGEND_ROW,  # pygal forgets a last row that is not full
        legend_at_bottom_columns=columns,
        truncate_legend=_LEGEND_TEXT[width],
        value_formatter=lambda number: _NOUGHTS.sub(" ", plot.say(number)),
        # Names of the ends of these axes stand out; a narrow one has room for few.
        margin_right=6 if plot.kind is PlotKind.STACKED else 28,
        max_scale=3 if narrow and plot.kind is PlotKind.BARS else 6,
        min_scale=2,
        style=_style(width),
        show_y_labels=is_drawn,
        show_y_guides=is_drawn,
        **_COMMON,
        **({"range": (0, plot.highest)} if plot.highest is not None else {}),
    )
    if is_drawn:
        _label(chart, plot, narrow)
    for series in plot.series if is_drawn else ():
        lined = {"stroke": not series.dots, "show_dots": series.dots, "dots_size": 5}
        chart.add(visible(series.title), list(series.values), **(lined if plot.kind is PlotKind.LINES else {}))
    return _clean(chart.render_tree(), plot, width)


_CHARTS = {PlotKind.STACKED: "StackedBar", PlotKind.BARS: "HorizontalBar", PlotKind.LINES: "XY"}
_COMMON: dict[str, Any] = {
    "js": [],
    "css": [],
    "explicit_size": True,
    "legend_at_bottom": True,
    "legend_box_size": 12,
    "margin": 6,
    "spacing": 12,
    "truncate_label": -1,
    "no_data_text": "Nothing yet",
    "tooltip_fancy_mode": False,
}


def _style(width: int) -> "Style":
    """Only the sizes count, by which pygal leaves room for texts."""
    from pygal.style import Style

    size = _TEXT[width]
    return Style(label_font_size=size, major_label_font_size=size, legend_font_size=size, no_data_font_size=size)


def _label(chart: Any, plot: Plot, narrow: bool) -> None:  # noqa: ANN401
    if plot.kind is PlotKind.LINES:
        days = plot.labels[:: 2 if narrow else 1]
        chart.x_labels = [{"value": day, "label": visible(name)} for day, name in days]
        return
    chart.x_labels = [visible(label) for label in plot.labels]
    # Names beside one another must not touch.
    if every := _every(len(plot.labels), narrow) if plot.kind is PlotKind.STACKED else 0:
        chart.x_labels_major_every = every
        chart.show_minor_x_labels = False


def _every(number: int, narrow: bool) -> int:
    few = 3 if narrow and number > 6 else 12
    return max(1, -(-number // few))


def _clean(tree: ET.Element, plot: Plot, width: int) -> bytes:
    """Take away scripts, remarks and pygal's own styles; add ours."""
    for parent in list(tree.iter()):
        for child in list(parent):
            kind = child.tag.removeprefix(_SVG) if isinstance(child.tag, str) else "script"
            if kind in _GONE or "tooltip" in child.get("class", "").split():
                parent.remove(child)
    tree.attrib.pop("id", None)
    tree.set("role", "img")
    for node in tree.iter():
        kind = node.tag.removeprefix(_SVG) if isinstance(node.tag, str) else ""
        if kind == "style":
            node.text = _css(plot, _TEXT[width])
        elif kind == "title" and node in list(tree):
            node.text = visible(plot.title)
    document: bytes = ET.tostring(tree, encoding="utf-8", xml_declaration=True)
    return document


def _css(plot: Plot, size: int) -> str:
    light = "".join(f"--c{number}:{light};" for number, (light, _dark) in enumerate(COLOURS))
    dark = "".join(f"--c{number}:{dark};" for number, (_light, dark) in enumerate(COLOURS))
    colours = "".join(
        f".color-{number}{{fill:var(--c{number});stroke:var(--c{number})}}" for number in range(len(COLOURS))
    )
    dashes = "".join(
        f".serie-{number} .line{{stroke-dasharray:{series.dashes}}}"
        for number, series in enumerate(plot.series)
        if series.dashes
    )
    on_paper = f"svg{{--card:#fff;--ink:#000;--line:#bbb;{light}}}"
    return (
        f"svg{{--card:#fff;--ink:#1a1e1b;--line:#d5d9d3;{light}background:var(--card)}}"
        f"@media (prefers-color-scheme:dark){{svg{{--card:#1a1f1c;--ink:#e9edea;--line:#3d4641;{dark}}}}}"
        f"@media print{{{on_paper}}}"
        f"{colours}.background{{fill:none;stroke:none}}"
        f"text{{fill:var(--ink)!important;stroke:none!important;font:{size}px system-ui,'Noto Sans','DejaVu Sans',"
        "sans-serif}"
        ".axis path,.axis .line{fill:none;stroke:var(--line);stroke-width:1}"
        ".axis.x text,.no_data{text-anchor:middle}.axis.y text{text-anchor:end}"
        ".horizontal .axis.y .guide,.vertical .axis.x .guide{opacity:0}"
        ".bars rect,.bar rect{stroke:var(--card);stroke-width:1}"
        ".line{stroke-width:2.5}.nofill{fill:none}.dot{stroke:var(--card);stroke-width:1}"
        f"{dashes}"
    )
