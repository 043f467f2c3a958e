"""Plots and HTML report of a results folder."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from simulator.records.results import Results, read_results
from simulator.report import style
from simulator.report.html import render_html
from simulator.report.plots import plot_cost, plot_errors, plot_latency
from simulator.report.timeline import plot_timeline

PLOTS: Final[dict[str, Callable[[Results], Figure]]] = {
    "timeline": plot_timeline,
    "latency": plot_latency,
    "errors": plot_errors,
    "cost": plot_cost,
}
REPORT_FILE: Final = "report.html"
_DPI: Final = 150


def write_report(directory: str | Path, results: Results | None = None) -> Path:
    """Write ``report.html`` and a PNG for each plot into a results folder; returns the report's path.

    Args:
        directory: the folder, also one that is still being staged; it holds the tables and the summary.
        results: what is in it, if it was read already.

    Raises:
        ResultsError: the folder holds no results.
    """
    directory = Path(directory)
    results = results if results is not None else read_results(directory)
    images = {name: png(plot(results)) for name, plot in PLOTS.items()}
    for name, image in images.items():
        (directory / f"{name}.png").write_bytes(image)
    report = directory / REPORT_FILE
    report.write_text(render_html(results, images), encoding="utf-8")
    return report


def png(figure: Figure) -> bytes:
    """The figure as a PNG image, the same for the same figure."""
    buffer = io.BytesIO()
    with style.style():
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
