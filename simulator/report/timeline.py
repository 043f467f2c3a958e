"""The timeline: load, replicas, queue, latency and utilisation one above the other on one clock.

Its point is to show the cause of a bad p99: shading marks the time in which first tokens came late, dotted
lines the reclaims, triangles the scale decisions.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.records.results import Results
from simulator.report import style, text

_LATE = "#FBE3DA"


def plot_timeline(results: Results, figure: Figure | None = None) -> Figure:
    """Draw the timeline of a run.

    Args:
        results: the run.
        figure: an empty figure to draw on (a notebook's, say); a new one without it.
    """
    with style.style():
        figure = figure if figure is not None else style.new_figure(12, 10.5)
        timeline = style.thin(results.tables.timeline)
        events = results.tables.events
        limit_s = results.summary["slo"]["limits"]["ttft_s"]
        panels = figure.subplots(5, 1, sharex=True, gridspec_kw={"height_ratios": [1.15, 1.3, 1, 1.3, 0.9]})
        for panel in panels:
            _shade_late(panel, timeline, limit_s)
        _load(panels[0], timeline)
        _replicas(panels[1], timeline)
        _queue(panels[2], timeline)
        _latency(panels[3], timeline, limit_s)
        _use(panels[4], timeline)
        _mark_reclaims(panels, events)
        for panel in panels:
            style.legend_beside(panel)
        style.time_axis(panels[-1], results.summary["run"]["duration_s"])
        panels[-1].set_xlabel(
            "simulated time, h:mm" if results.summary["run"]["duration_s"] > 600 else "simulated time"
        )
        figure.align_ylabels(panels)
    return figure


def _steps(timeline: pd.DataFrame, values: pd.Series[float]) -> tuple[np.ndarray, np.ndarray]:
    """Interval values as a staircase: x has one point more, so that each interval is drawn whole."""
    t = timeline["t_s"].to_numpy(dtype=float)
    starts = t - timeline["interval_s"].to_numpy(dtype=float)
    y = values.to_numpy(dtype=float)
    return np.append(starts, t[-1:]), np.append(y, y[-1:])


def _rate(timeline: pd.DataFrame, column: str) -> pd.Series[float]:
    return timeline[column] / timeline["interval_s"]


def _shade_late(axes: Axes, timeline: pd.DataFrame, limit_s: float | None) -> None:
    if limit_s is None:
        return
    late = (timeline["ttft_p99_s"] > limit_s).to_numpy()
    starts = (timeline["t_s"] - timeline["interval_s"]).to_numpy()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], late, [False]]).astype(int)))
    for first, beyond in zip(edges[::2], edges[1::2]):
        axes.axvspan(starts[first], timeline["t_s"].iloc[beyond - 1], color=_LATE, lw=0, zorder=0)


def _load(axes: Axes, timeline: pd.DataFrame) -> None:
    axes.set_title("Load, requests/s")
    x, arrivals = _steps(timeline, _rate(timeline, "arrivals"))
    axes.fill_between(x, arrivals, step="post", color=style.PALE, lw=0, label="arrivals")
    axes.step(x, arrivals, where="post", color=style.GREY, lw=0.8)
    x, completed = _steps(timeline, _rate(timeline, "completed"))
    axes.step(x, completed, where="post", color=style.BLUE, label="completed")
    if timeline["fell_back"].any():
        x, away = _steps(timeline, _rate(timeline, "fell_back"))
        axes.step(x, away, where="post", color=style.PURPLE, lw=1.2, label="fell back")
    x, errors = _steps(timeline, _rate(timeline, "errors"))
    axes.step(x, errors, where="post", color=style.VERMILLION, lw=1.5, label="errors")
    axes.set_ylim(bottom=0)


def _replicas(axes: Axes, timeline: pd.DataFrame) -> None:
    axes.set_title("Replicas and nodes")
    x, on_demand = _steps(timeline, timeline["nodes_on_demand"])
    x, spot = _steps(timeline, timeline["nodes_spot"])
    axes.fill_between(x, on_demand, step="post", color="#CDD5DF", lw=0, label="nodes, on-demand")
    axes.fill_between(x, on_demand, on_demand + spot, step="post", color="#F8DFA6", lw=0, label="nodes, spot")
    x, provisioned = _steps(timeline, timeline["replicas_provisioned"])
    axes.step(x, provisioned, where="post", color=style.SKY, lw=1.2, label="provisioned")
    x, ready = _steps(timeline, timeline["replicas_ready"])
    axes.step(x, ready, where="post", color=style.GREEN, lw=2.2, label="ready")
    x, desired = _steps(timeline, timeline["replicas_desired"])
    axes.step(x, desired, where="post", color=style.INK, lw=1.2, ls=(0, (3, 1.5)), label="desired")
    top = float(np.concatenate([[1.0], on_demand + spot, provisioned, desired]).max())
    axes.set_ylim(0, top * 1.22)
    change = timeline["replicas_desired"].diff().fillna(0).to_numpy()
    t = (timeline["t_s"] - timeline["interval_s"]).to_numpy()
    for sign, marker, label in ((1, "^", "scale up"), (-1, "v", "scale down")):
        at = t[np.sign(change) == sign]
        if len(at):
            axes.plot(at, np.full(len(at), top * 1.13), marker, ms=4.5, color=style.INK, lw=0, label=label)


def _queue(axes: Axes, timeline: pd.DataFrame) -> None:
    axes.set_title("Queue, requests")
    x, engine = _steps(timeline, timeline["waiting"])
    x, gateway = _steps(timeline, timeline["gateway_queue"])
    axes.fill_between(x, engine, step="post", color=style.SKY, alpha=0.75, lw=0, label="waiting in engines")
    axes.fill_between(
        x,
        engine,
        engine + gateway,
        step="post",
        color=style.ORANGE,
        alpha=0.75,
        lw=0,
        label="held by the gateway",
    )
    axes.set_ylim(0, float((engine + gateway).max(initial=1.0)) * 1.08)


def _latency(axes: Axes, timeline: pd.DataFrame, limit_s: float | None) -> None:
    axes.set_title("Time to first token")
    axes.set_yscale("log")
    x, p99 = _steps(timeline, timeline["ttft_p99_s"])
    axes.step(x, p99, where="post", color=style.VERMILLION, label="p99")
    x, p50 = _steps(timeline, timeline["ttft_p50_s"])
    axes.step(x, p50, where="post", color=style.BLUE, label="p50")
    if limit_s is not None:
        axes.axhline(
            limit_s, color=style.INK, lw=1.1, ls=(0, (5, 2)), label=f"SLO limit, {text.limit(limit_s)}"
        )
        axes.plot([], [], "s", ms=9, color=_LATE, label="p99 over the limit")
    known = np.concatenate([p50[np.isfinite(p50)], p99[np.isfinite(p99)], [limit_s or 1.0]])
    axes.set_ylim(known.min() / 1.5, known.max() * 1.6)
    style.seconds_axis(axes.yaxis)


def _use(axes: Axes, timeline: pd.DataFrame) -> None:
    axes.set_title("Utilisation of ready replicas, %")
    for column, label, colour, width in (
        ("gpu_utilization", "GPU busy (DCGM)", style.BLUE, 1.3),
        ("kv_usage_mean", "KV cache, mean", style.GREEN, 1.8),
        ("kv_usage_max", "KV cache, fullest", style.GREEN, 0.8),
    ):
        x, y = _steps(timeline, timeline[column])
        axes.step(x, 100 * y, where="post", color=colour, lw=width, label=label)
    axes.set_ylim(0, 105)


def _mark_reclaims(panels: np.ndarray, events: pd.DataFrame) -> None:
    reclaims = events[events["kind"] == "reclaim"].drop_duplicates("subject")
    for t in reclaims["t_s"]:
        for panel in panels:
            panel.axvline(t, color=style.PURPLE, lw=1.1, ls=(0, (1, 1.6)), zorder=1.5)
    if len(reclaims):
        panels[1].plot([], [], color=style.PURPLE, lw=1.1, ls=(0, (1, 1.6)), label="spot reclaim")
