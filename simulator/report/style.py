"""Looks of the plots: one style, the colour-blind-safe palette of Okabe and Ito (2008), a clock for an axis."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullLocator

BLUE: Final = "#0072B2"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
VERMILLION: Final = "#D55E00"
PURPLE: Final = "#AA4499"
INK: Final = "#222222"
GREY: Final = "#8A8F98"
PALE: Final = "#D9DDE3"
CYCLE: Final = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)

_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 6,
    "axes.edgecolor": "#B9BEC6",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E7EAEE",
    "grid.linewidth": 0.8,
    "xtick.color": "#555B65",
    "ytick.color": "#555B65",
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
_TICKS_S: Final = (
    1,
    5,
    10,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14_400,
    21_600,
    43_200,
    86_400,
    604_800,
)


def style() -> Any:
    """A context in which figures are made and saved in this project's style."""
    return mpl.rc_context(_STYLE)


def new_figure(width: float, height: float) -> Figure:
    """A figure (inches) apart from pyplot, drawn by Agg when it is saved."""
    return Figure(figsize=(width, height), layout="constrained")


def time_axis(axes: Axes, duration_s: float) -> None:
    """Label an axis in seconds with the run's clock, ten ticks or fewer."""
    tick = next((t for t in _TICKS_S if duration_s / t <= 10), _TICKS_S[-1])
    axes.set_xlim(0, duration_s)
    axes.xaxis.set_major_locator(MultipleLocator(tick))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: _clock(t, tick, duration_s)))


def _clock(t_s: float, tick: float, duration_s: float) -> str:
    t = round(t_s)
    if duration_s > 2 * 86_400:
        day = f"day {t // 86_400}"
        return day if tick >= 86_400 else f"{day}\n{t // 3600 % 24}:00"
    if tick < 60:
        return f"{t // 3600}:{t // 60 % 60:02d}:{t % 60:02d}"
    return f"{t // 3600}:{t // 60 % 60:02d}"


def legend_beside(axes: Axes) -> None:
    """Legend to the right of the panel, where it covers nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.04), borderaxespad=0, handlelength=1.6)


def seconds_axis(axis: Any) -> None:
    """A logarithmic axis of durations: ticks at 1, 2 and 5; at powers of ten when there are many, evenly when few."""
    low, high = axis.get_view_interval()
    if high / low < 6:
        axis.set_major_locator(MaxNLocator(nbins=4))
    else:
        narrow = high / low < 300
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v * 1e3:g} ms" if v < 1 else f"{v:g} s"))


def thin(timeline: pd.DataFrame, most: int = 480) -> pd.DataFrame:
    """At most so many rows: neighbours merged, so that long runs stay readable and no peak is lost.

    Counts are summed, queues and p99s take their highest value, other gauges their mean.
    """
    group = -(-len(timeline) // most)
    if group <= 1:
        return timeline.copy()
    sums = [
        "interval_s",
        "arrivals",
        "attempts",
        "completed",
        "fell_back",
        "errors",
        "slo_good",
        "input_tokens",
        "output_tokens",
        "prefix_queries",
        "prefix_hits",
        "preemptions",
    ]
    highest = ["t_s", "ttft_p99_s", "gateway_queue", "waiting", "kv_usage_max", "cost_usd"]
    how = {name: "sum" if name in sums else "max" if name in highest else "mean" for name in timeline.columns}
    return timeline.groupby(np.arange(len(timeline)) // group).agg(how)
