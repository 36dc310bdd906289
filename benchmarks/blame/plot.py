"""A blame result as a picture: PNG by matplotlib, or a page by plotly that shows figures on hover."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

from nanonet_edge import atomic
from nanonet_edge.benchmarks.blame.result import BlameResult
from nanonet_edge.errors import UsageError
from nanonet_edge.extras import ensure, require

_MODULES: Final = {".png": "matplotlib", ".html": "plotly"}
_TITLES: Final = ("gain if kept in float", "loss if quantized alone", "SQNR (dB)")


def check_plot(path: Path) -> None:
    """Find out before the work that a picture could not be drawn.

    Raises:
        UsageError: another suffix than .png and .html.
        MissingExtraError: the library that draws it is not installed.
    """
    module = _MODULES.get(path.suffix.lower())
    if module is None:
        raise UsageError(f"{path}: expected a file that ends in {' or '.join(_MODULES)}")
    ensure(module)


def save_plot(result: BlameResult, path: Path) -> None:
    """Draw gain, loss and signal-to-noise ratio of every layer, in the order of the ranking.

    Raises:
        UsageError, MissingExtraError: as `check_plot`.
    """
    check_plot(path)
    atomic.write_bytes(path, _png(result) if path.suffix.lower() == ".png" else _html(result))


def _columns(result: BlameResult) -> tuple[list[str], list[list[float]]]:
    rows = result.layers
    names = [row.layer for row in rows]
    noise = [row.sqnr_db if row.sqnr_db is not None else float("nan") for row in rows]
    return names, [[row.gain.mean for row in rows], [row.loss.mean for row in rows], noise]


def _png(result: BlameResult) -> bytes:
    figure_class: Any = require("matplotlib.figure").Figure
    names, columns = _columns(result)
    figure = figure_class(figsize=(12, 1.5 + 0.17 * len(names)), layout="constrained")
    figure.suptitle(_heading(result))
    for axes, title, values in zip(figure.subplots(1, 3, sharey=True), _TITLES, columns, strict=True):
        axes.barh(range(len(names)), values)
        axes.set_title(title, fontsize="medium")
        axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(names)), names, fontsize=6)
        axes.margins(y=0.01)
    axes.invert_yaxis()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _html(result: BlameResult) -> bytes:
    objects: Any = require("plotly.graph_objects")
    subplots: Any = require("plotly.subplots")
    names, columns = _columns(result)
    figure = subplots.make_subplots(rows=1, cols=3, shared_yaxes=True, subplot_titles=_TITLES)
    for column, values in enumerate(columns, 1):
        figure.add_trace(objects.Bar(x=values, y=names, orientation="h", showlegend=False), row=1, col=column)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(title=_heading(result), height=200 + 16 * len(names))
    page: str = figure.to_html(include_plotlyjs=True)
    return page.encode()


def _heading(result: BlameResult) -> str:
    return f"{result.artifact}: mean Dice {result.dice.mean:.4f} on {result.data} ({result.obtained})"
