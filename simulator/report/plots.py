"""Latency distributions, errors and cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.outcomes import Cause, Outcome
from simulator.records.results import Results
from simulator.report import style, text

_POINTS = 2000


def plot_latency(results: Results, figure: Figure | None = None) -> Figure:
    """Cumulative distributions of TTFT, TPOT and E2E by workload, and of ITL, with the SLO's limits."""
    with style.style():
        figure = figure if figure is not None else style.new_figure(12, 6.6)
        panels = figure.subplots(2, 2).ravel()
        tables = results.tables
        completed = np.asarray(tables.column("requests", "outcome") == Outcome.COMPLETED.label)
        workload_of = tables.column("requests", "workload")
        workloads = list(results.summary["workloads"])
        for axes, column in zip(panels, ("ttft_s", "tpot_s", "e2e_s")):
            short, long = text.LATENCIES[column]
            axes.set_title(f"{short}: {long}")
            values = tables.column("requests", column)
            if len(workloads) > 1:
                _cdf(axes, values, completed, style.INK, "all", 2.0)
            for name, colour in zip(workloads, style.CYCLE):
                _cdf(axes, values, completed & (workload_of == name), colour, name, 1.3)
            del values  # a column of ten million requests is 80 MB
            limit = results.summary["slo"]["limits"][column]
            if limit is not None:
                axes.axvline(limit, color=style.INK, lw=1.1, ls=(0, (5, 2)))
                axes.annotate(
                    f"SLO, {text.limit(limit)}",
                    (limit, 0.03),
                    xytext=(-4, 0),
                    textcoords="offset points",
                    rotation=90,
                    ha="right",
                    va="bottom",
                    fontsize=8.5,
                )
        _itl(panels[3], tables.itl, workloads)
        for axes in panels:
            axes.set_xscale("log")
            axes.set_ylim(0, 1.01)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 0.99], ["0", "25 %", "50 %", "75 %", "90 %", "99 %"])
            style.seconds_axis(axes.xaxis)
        if panels[0].get_legend_handles_labels()[0]:
            panels[0].legend(loc="upper left")
    return figure


def _cdf(axes: Axes, values: np.ndarray, of: np.ndarray, colour: str, label: str, width: float) -> None:
    known = values[of & (values > 0)]
    if not len(known):
        return
    known.sort()
    ranks = np.unique(np.linspace(0, len(known) - 1, min(len(known), _POINTS)).round().astype(int))
    axes.step(known[ranks], (ranks + 1) / len(known), where="post", color=colour, lw=width, label=label)


def _itl(axes: Axes, itl: pd.DataFrame, workloads: list[str]) -> None:
    short, long = text.LATENCIES["itl_s"]
    axes.set_title(f"{short}: {long}")
    for name, colour in zip(workloads, style.CYCLE):
        part = itl[itl["workload"] == name]
        part = part[part["low_s"] > 0]
        if len(part):
            share = part["tokens"].cumsum() / part["tokens"].sum()
            axes.step(part["high_s"], share, where="post", color=colour, lw=1.3, label=name)


def plot_errors(results: Results, figure: Figure | None = None) -> Figure:
    """What became of requests, by the time they were sent, and the causes of errors over time."""
    with style.style():
        figure = figure if figure is not None else style.new_figure(12, 5.6)
        upper, lower = figure.subplots(2, 1, sharex=True)
        tables = results.tables
        duration_s = results.summary["run"]["duration_s"]
        edges = np.linspace(0, duration_s, 121)
        per_s = 1 / (edges[1] - edges[0])
        colours = {
            Outcome.COMPLETED: "#BFD7E8",
            Outcome.FELL_BACK: style.PURPLE,
            Outcome.TIMED_OUT: style.ORANGE,
            Outcome.REJECTED: style.VERMILLION,
            Outcome.FAILED: style.INK,
            Outcome.IN_FLIGHT: style.PALE,
        }
        upper.set_title("Outcome by time of arrival, requests/s")
        below = np.zeros(len(edges) - 1)
        arrival_s, outcomes = (tables.column("requests", name) for name in ("arrival_s", "outcome"))
        for outcome, colour in colours.items():
            at = arrival_s[outcomes == outcome.label]
            below = _stack(upper, edges, below, at, per_s, colour, outcome.label)
        lower.set_title("Requests that failed and those that fell back, by cause, requests/s")
        below = np.zeros(len(edges) - 1)
        del arrival_s
        end_s, cause_of = (tables.column("requests", name) for name in ("end_s", "cause"))
        causes = [cause for cause in Cause if cause and (cause_of == cause.value).any()]
        for i, cause in enumerate(causes):
            at = end_s[(cause_of == cause.value) & ~np.isnan(end_s)]
            colour = (
                style.VERMILLION,
                style.ORANGE,
                style.BLUE,
                style.PURPLE,
                style.GREEN,
                style.SKY,
                style.INK,
                style.GREY,
                style.PALE,
            )[i % 9]
            below = _stack(lower, edges, below, at, per_s, colour, cause.value)
        if not causes:
            lower.text(
                0.5, 0.5, "none", transform=lower.transAxes, ha="center", va="center", color=style.GREY
            )
            lower.set_yticks([])
        for axes in (upper, lower):
            axes.set_ylim(bottom=0)
            if axes.collections:
                style.legend_beside(axes)
        style.time_axis(lower, duration_s)
        lower.set_xlabel("simulated time")
    return figure


def _stack(
    axes: Axes,
    edges: np.ndarray,
    below: np.ndarray,
    at: np.ndarray,
    per_s: float,
    colour: str,
    label: str,
) -> np.ndarray:
    if not len(at):
        return below
    counts, _ = np.histogram(at, edges)
    top: np.ndarray = below + counts * per_s
    axes.fill_between(
        edges,
        np.append(below, below[-1]),
        np.append(top, top[-1]),
        step="post",
        color=colour,
        lw=0,
        label=label,
    )
    return top


def plot_cost(results: Results, figure: Figure | None = None) -> Figure:
    """Dollars per hour as they are spent, and their sum since the start."""
    with style.style():
        figure = figure if figure is not None else style.new_figure(12, 4.2)
        upper, lower = figure.subplots(2, 1, sharex=True)
        timeline = style.thin(results.tables.timeline, 240)
        t = timeline["t_s"].to_numpy(dtype=float)
        x = np.concatenate([[0.0], t])
        total = np.concatenate([[0.0], timeline["cost_usd"].to_numpy(dtype=float)])
        per_hour = np.diff(total) / timeline["interval_s"].to_numpy(dtype=float) * 3600
        per_hour = np.append(per_hour, per_hour[-1] if len(t) else 0.0)
        upper.set_title("Spending, $/h")
        upper.fill_between(x, per_hour, step="post", color="#CDE6DC", lw=0)
        upper.step(x, per_hour, where="post", color=style.GREEN, lw=1.3)
        lower.set_title("Spent since the start, $")
        lower.plot(x, total, color=style.GREEN, lw=2)
        if len(t):
            lower.annotate(
                text.usd(float(total[-1])),
                (x[-1], total[-1]),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color=style.GREEN,
                fontweight="bold",
                annotation_clip=False,
            )
        for axes in (upper, lower):
            axes.set_ylim(bottom=0)
        style.time_axis(lower, results.summary["run"]["duration_s"])
        lower.set_xlabel("simulated time")
    return figure
