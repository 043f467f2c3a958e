"""The break-even as a table, as data and as a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from simulator.breakeven.study import Point, Study
from simulator.report import style, text
from simulator.statistics import t_interval


def as_data(study: Study, scenario: str, api: tuple[float, float]) -> dict[str, Any]:
    """What ``summary.json`` holds.

    Args:
        study: the study.
        scenario: its name.
        api: the API's dollars per million input and output tokens.
    """
    found = study.crossing
    return {
        "scenario": scenario,
        "fleet": study.fleet,
        "api_usd_per_million_input": api[0],
        "api_usd_per_million_output": api[1],
        "break_even": {
            "load": found.load,
            "low": found.low,
            "high": found.high,
            "replications_crossed": found.crossed,
            "replications_always_cheaper": found.always,
            "replications_never_cheaper": found.never,
        },
        "answer": answer(study),
        "points": [
            {
                "load": point.load,
                "replicas": point.replicas,
                "slo_met": point.slo_met,
                "own_usd_per_million_tokens": list(point.own_usd_per_million),
                "api_usd_per_million_tokens": list(point.api_usd_per_million),
                "arrivals_per_s": _each(point, "throughput", "arrivals_per_s"),
                "gpu_utilization": _each(point, "engine", "gpu_utilization", "mean"),
                "replicas_ready": _each(point, "fleet", "replicas_ready", "mean"),
                "total_usd": _each(point, "cost", "total_usd"),
            }
            for point in study.points
        ],
    }


def answer(study: Study) -> str:
    """The break-even in one sentence."""
    found = study.crossing
    good = [point for point in study.points if point.slo_met]
    if not good:
        return "No tested load meets the SLO: there is nothing to compare."
    lowest, highest = good[0].load, good[-1].load
    if found.load is None:
        if not found.never:
            return f"The own fleet is cheaper at every tested load, from {lowest:g} times the scenario's traffic on."
        if not found.always:
            return (
                f"The API is cheaper up to {highest:g} times the scenario's traffic, the highest tested load."
            )
        return (
            f"The own fleet is cheaper at every tested load in {found.always} replications, and not at the highest "
            f"in {found.never}."
        )
    interval = "" if found.low is None else f" ({found.low:.3g} to {found.high:.3g}, 95 %)"
    rest = ""
    if found.always or found.never:
        rest = (
            f" That is over {found.crossed} replications; in {found.always} it is cheaper at every tested load, in "
            f"{found.never} not at the highest."
        )
    return f"The own fleet is cheaper from {found.load:.3g} times the scenario's traffic on{interval}.{rest}"


def table(study: Study) -> Table:
    """A row for each load."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("load", "arrivals/s", "replicas", "GPU busy", "SLO", "own $/M", "API $/M"):
        made.add_column(name, justify="right", no_wrap=True)
    for point in study.points:
        made.add_row(
            f"{point.load:g}",
            _mean(_each(point, "throughput", "arrivals_per_s"), text.significant, interval=False),
            _mean(_each(point, "fleet", "replicas_ready", "mean"), text.significant, interval=False),
            _mean(_each(point, "engine", "gpu_utilization", "mean"), text.percent, interval=False),
            "met" if point.slo_met else "missed",
            _mean(point.own_usd_per_million, text.usd),
            _mean(point.api_usd_per_million, text.usd),
        )
    return made


def plot(study: Study) -> Figure:
    """Dollars per million tokens against load, both ways, with the crossing and its interval."""
    with style.style():
        figure = style.new_figure(8, 4.5)
        axes = figure.subplots()
        shown = [point for point in study.points if point.own_usd_per_million]
        loads = [point.load for point in shown]
        for values, colour, label in (
            ([point.own_usd_per_million for point in shown], style.BLUE, "own fleet"),
            ([point.api_usd_per_million for point in shown], style.VERMILLION, "API"),
        ):
            intervals = [t_interval(list(each)) for each in values]
            means = [interval.mean for interval in intervals]
            axes.errorbar(
                loads,
                means,
                yerr=[interval.half_width or 0.0 for interval in intervals],
                color=colour,
                marker="o",
                ms=4,
                capsize=2,
                label=label,
            )
        for point in shown:
            if not point.slo_met:
                axes.annotate(
                    "SLO missed",
                    (point.load, t_interval(list(point.own_usd_per_million)).mean),
                    xytext=(0, 8),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    color=style.GREY,
                )
        found = study.crossing
        if found.load is not None:
            axes.axvline(found.load, color=style.INK, lw=1.1, ls=(0, (5, 2)))
            if found.low is not None and found.high is not None:
                axes.axvspan(found.low, found.high, color=style.PALE, lw=0)
        axes.set_title("Dollars per million tokens")
        axes.set_xlabel("load, times the scenario's traffic")
        if shown:
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(loads, [f"{load:g}" for load in loads])
            axes.minorticks_off()
            axes.yaxis.set_major_formatter(lambda value, _: f"${value:g}")
            axes.legend()
    return figure


def _each(point: Point, *path: str) -> list[float | None]:
    values = []
    for summary in point.summaries:
        node: Any = summary
        for key in path:
            node = node[key]
        values.append(node)
    return values


def _mean(values: Sequence[float | None], show: Callable[..., str], *, interval: bool = True) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return text.DASH
    found = t_interval(known)
    return show(found.mean, found.half_width if interval else None)
