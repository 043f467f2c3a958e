"""The summary on the console: one screen, the verdict first."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simulator.report import text
from simulator.report.text import figure

_GAP: Final = 3
_NOTES: Final = 3
_OUTCOMES: Final = {**text.OUTCOMES, "fell_back": "fell back", "in_flight": "in flight"}
"""Short enough for two tables side by side on 80 columns."""


def print_summary(summary: dict[str, Any], console: Console, *, folder: Path | None = None) -> None:
    """Print the summary of a run, or of its replications when the summary has them.

    Args:
        summary: of `simulator.metrics.summarise`; under ``replications`` what `simulator.statistics.combine` made.
        console: where to.
        folder: the results folder, named in the last line.
    """
    run = summary["run"]
    met, sentence = text.verdict(summary)
    console.print()
    console.print(Text(f" {sentence} ", style="bold white on green" if met else "bold white on red"))
    console.print(Text(text.limits(summary), style="dim"))
    console.print(
        f"{run['scenario']}: {run['model']} on {run['gpu']} × {run['gpus_per_replica']} per replica, {run['engine']}, "
        f"{text.clock(run['duration_s'])} simulated, {_seeds(summary)}",
        highlight=False,
    )
    console.print()
    console.print(_latencies(summary))
    console.print()
    _side_by_side(_outcomes(summary), _fleet(summary), console)
    moment = text.worst(summary)
    if moment and not summary.get("replications"):
        console.print()
        console.print(Text(moment))
    console.print()
    _trust(summary, console)
    if folder is not None:
        console.print()
        console.print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)


def _seeds(summary: dict[str, Any]) -> str:
    combined = summary.get("replications")
    if not combined:
        return f"seed {summary['run']['seed']}"
    return f"{combined['replications']} replications, {100 * combined['confidence']:g} % intervals"


def _side_by_side(left: Table, right: Table, console: Console) -> None:
    """Beside each other where both fit in full, else one below the other."""
    widths = [Measurement.get(console, console.options, table).maximum for table in (left, right)]
    if sum(widths) + _GAP > console.width:
        console.print(left)
        console.print()
        console.print(right)
        return
    sides = Table.grid(padding=(0, _GAP), pad_edge=False)
    sides.add_row(left, right)
    console.print(sides)


def _latencies(summary: dict[str, Any]) -> Table:
    limits = summary["slo"]["limits"]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Latency", no_wrap=True)
    shown = ("mean", "p50", "p99") if summary.get("replications") else text.STATISTICS
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("SLO", justify="right", no_wrap=True)
    for key, (short, _) in text.LATENCIES.items():
        limit = limits.get(key)
        table.add_row(
            short,
            *(figure(summary, "latency", key, name).show(text.seconds) for name in shown),
            text.DASH if limit is None else f"≤ {text.limit(limit)}",
        )
    return table


def _pairs(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(title, no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for name, value in rows:
        table.add_row(name, value)
    return table


def _outcomes(summary: dict[str, Any]) -> Table:
    total = figure(summary, "requests", "total")
    rows = [("in all", total.show(text.count))]
    for key, name in _OUTCOMES.items():
        value = figure(summary, "requests", key)
        if value.value:
            share = text.percent(value.value / total.value) if total.value else text.DASH
            rows.append((f"  {name}", f"{value.show(text.count)}  {share:>8}"))
    rows.append(("error share", figure(summary, "requests", "error_share").show(text.percent)))
    for cause in _section(summary, "requests", "errors_by_cause"):
        name = text.SHORT_CAUSES[cause]
        rows.append((f"  {name}", figure(summary, "requests", "errors_by_cause", cause).show(text.count)))
    rows += [
        ("arrivals", f"{figure(summary, 'throughput', 'arrivals_per_s').show(text.significant)} /s"),
        ("completed", f"{figure(summary, 'throughput', 'completed_per_s').show(text.significant)} /s"),
        ("goodput", f"{figure(summary, 'throughput', 'goodput_per_s').show(text.significant)} /s"),
        ("input tokens", f"{figure(summary, 'throughput', 'input_tokens_per_s').show(text.significant)} /s"),
        (
            "output tokens",
            f"{figure(summary, 'throughput', 'output_tokens_per_s').show(text.significant)} /s",
        ),
        (
            "  per GPU",
            f"{figure(summary, 'throughput', 'output_tokens_per_s_per_gpu').show(text.significant)} /s",
        ),
    ]
    return _pairs("Requests", rows)


def _section(summary: dict[str, Any], *path: str) -> list[str]:
    node: Any = summary["replications"]["figures"] if summary.get("replications") else summary
    for key in path:
        node = node.get(key, {})
    return list(node)


def _mean_max(summary: dict[str, Any], section: str, key: str, style: text.Style) -> str:
    """Without intervals, which would not fit."""
    mean, most = figure(summary, section, key, "mean"), figure(summary, section, key, "max")
    return f"{style(mean.value)}  (max {style(most.value)})"


def _fleet(summary: dict[str, Any]) -> Table:
    rows = [
        ("replicas desired", _mean_max(summary, "fleet", "replicas_desired", text.count)),
        ("replicas existing", _mean_max(summary, "fleet", "replicas_provisioned", text.count)),
        ("replicas ready", _mean_max(summary, "fleet", "replicas_ready", text.count)),
        (
            "rescales, reclaims",
            f"{text.count(figure(summary, 'fleet', 'scale_changes').value)} / "
            f"{text.count(figure(summary, 'fleet', 'reclaims').value)}",
        ),
        ("queue, engines", _mean_max(summary, "engine", "waiting", text.count)),
        ("queue, gateway", _mean_max(summary, "engine", "gateway_queue", text.count)),
        ("batch size", _mean_max(summary, "engine", "batch_size", text.count)),
        ("KV cache", _mean_max(summary, "engine", "kv_usage", text.percent)),
        ("GPU busy", _mean_max(summary, "engine", "gpu_utilization", text.percent)),
        ("GPU memory used", text.gibibytes(figure(summary, "engine", "gpu_memory_used_bytes", "mean").value)),
        (
            "prefix hits",
            text.percent(figure(summary, "engine", "prefix_hit_rate").value),
        ),
        ("preemptions", text.count(figure(summary, "engine", "preemptions").value)),
    ]
    for pool in _section(summary, "fleet", "pools"):
        hours = text.significant(figure(summary, "fleet", "pools", pool, "gpu_hours").value)
        dollars = text.usd(figure(summary, "fleet", "pools", pool, "cost_usd").value)
        rows.append((f"pool {pool}", f"{hours} GPU-h  {dollars}"))
    for line, name in text.COST_LINES.items():
        spent = figure(summary, "cost", "lines", f"{line}_usd")
        if spent.value:
            rows.append((f"  {name}", spent.show(text.usd)))
    rows += [
        ("total", figure(summary, "cost", "total_usd").show(text.usd)),
        ("  at the peak's size", figure(summary, "cost", "peak_provisioned_usd").show(text.usd)),
        (
            "  per M output tokens",
            figure(summary, "cost", "usd_per_million_output_tokens").show(text.usd),
        ),
        ("  per M tokens", figure(summary, "cost", "usd_per_million_tokens").show(text.usd)),
    ]
    return _pairs("Fleet and money", rows)


def _trust(summary: dict[str, Any], console: Console) -> None:
    step_time = summary["step_time"]
    kind = {"profile": "profile", "roofline": "roofline (data-sheet figures)"}[step_time["source"]]
    console.print(Text("Step times, and how far to trust them", style="bold"))
    known = text.known_error(summary) if step_time["known_error"] else step_time["text"]
    lines = [f"{kind} {step_time['name']}. {known}"]
    lines += [f"Outside the measured range: {line}." for line in text.out_of_range(summary)]
    combined = summary.get("replications")
    lines += [combined["estimand"]] if combined else ["One run: no interval; --replications gives them."]
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 2)))
    notes = summary["notes"]
    for note in notes[:_NOTES]:
        console.print(Padding(Text(note, no_wrap=True, overflow="ellipsis"), (0, 0, 0, 2)))
    more = len(notes) - _NOTES
    told = f"; {more} more notes" if more > 1 else "; 1 more note" if more == 1 else ""
    console.print(
        Padding(Text(f"In full, with how the step times were checked{told}: in the report."), (0, 0, 0, 2))
    )
