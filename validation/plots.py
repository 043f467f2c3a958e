"""Plots of a case: measured and predicted distributions, request against request, running and waiting over time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.report import style
from validation.cases.case import ReplayCase
from validation.comparison import METRICS
from validation.single_replica import Replayed

_NAMES: Final = {"ttft_ms": "TTFT at the client", "tpot_ms": "TPOT", "e2e_ms": "E2E at the client"}
_COLOURS: Final = (style.BLUE, style.ORANGE, style.VERMILLION, style.PURPLE)


def plot_case(case: ReplayCase, replayed: Replayed) -> Figure:
    """Distributions above, pairs in the middle, running and waiting requests below."""
    with style.style():
        figure = style.new_figure(12, 10)
        panels = figure.subplots(3, 3)
        for column, metric in enumerate(METRICS):
            _distributions(panels[0][column], case, replayed, metric)
            _pairs(panels[1][column], case, replayed, metric)
        grid = panels[2][0].get_gridspec()
        for axes in panels[2]:
            axes.remove()
        _timeline(figure.add_subplot(grid[2, :]), case, replayed)
        figure.suptitle(case.title, x=0.01, ha="left", fontweight="bold")
    return figure


def save_plot(path: Path, case: ReplayCase, replayed: Replayed) -> None:
    """Draw a case into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style.style():
        plot_case(case, replayed).savefig(path, dpi=120)


def _distributions(axes: Axes, case: ReplayCase, replayed: Replayed, metric: str) -> None:
    axes.set_title(_NAMES[metric])
    series = [
        ("measured", case.measured[metric], style.INK, 2.0),
        ("predicted", replayed.requests[metric], style.BLUE, 1.3),
    ]
    series += [
        (who, theirs[metric], style.ORANGE, 1.0) for who, theirs in case.published.items() if metric in theirs
    ]
    for label, values, colour, width in series:
        known = np.sort(values.dropna().to_numpy(float)) / 1e3
        axes.plot(
            known, np.arange(1, len(known) + 1) / max(len(known), 1), color=colour, lw=width, label=label
        )
    axes.set_xscale("log")
    axes.set_ylim(0, 1.01)
    style.seconds_axis(axes.xaxis)
    axes.legend(loc="lower right")


def _pairs(axes: Axes, case: ReplayCase, replayed: Replayed, metric: str) -> None:
    for name, colour in zip(dict.fromkeys(case.regimes), _COLOURS):
        mask = (case.regimes == name).to_numpy(bool)
        axes.scatter(
            case.measured.loc[mask, metric] / 1e3,
            replayed.requests.loc[mask, metric] / 1e3,
            s=9,
            color=colour,
            alpha=0.6,
            linewidths=0,
            label=name,
        )
    low, high = axes.get_xlim()
    low = max(low, float(np.nanmin(case.measured[metric])) / 1e3 * 0.8)
    axes.plot([low, high], [low, high], color=style.GREY, lw=1, zorder=0)
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        style.seconds_axis(axis)
    axes.set_xlabel("measured")
    axes.set_ylabel("predicted")
    axes.legend(loc="upper left", markerscale=2)


def _timeline(axes: Axes, case: ReplayCase, replayed: Replayed) -> None:
    axes.set_title("running and waiting requests")
    predicted = replayed.timeline
    for name, colour in (("running", style.BLUE), ("waiting", style.VERMILLION)):
        if case.timeline is not None:
            at_s = case.timeline["t_s"] - float(case.measured["arrival_s"].min())
            axes.plot(at_s, case.timeline[name], color=colour, lw=2.2, alpha=0.4, label=f"{name}, measured")
        axes.plot(predicted["t_s"], predicted[name], color=colour, lw=1.2, label=f"{name}, predicted")
    style.time_axis(axes, max(float(predicted["t_s"].max()), 1.0))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")
