"""``python -m benchmarks.run``: the table of speed bars, and cost per request against what it should not depend on."""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.cases import FEWER_BLOCKS, ONE_REPLICA, Case, bars, closed_loop
from benchmarks.measure import Measurement, measure
from simulator.resolve import resolve_replica
from simulator.scenario.load import load_scenario

OUTPUT_TOKENS: Final = (50, 100, 200, 500, 1000, 2000)
BATCH_SIZES: Final = (8, 16, 32, 64, 128, 256)
REPLICAS: Final = (1, 2, 4, 8, 16)
_SATURATION_REQUESTS: Final = 3000
_PILOT_S: Final = 300.0
_SHARES_SCALE: Final = 0.2


def fresh(scenario: Path, overrides: Sequence[str]) -> Measurement:
    """`measure` in a process of its own, so that memory is the case's and nothing is warm."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, scenario, tuple(overrides)).result()


@contextmanager
def as_written() -> Iterator[None]:
    """Processes started inside use the Python files: compiled code has no frames for a profiler to see."""
    before = os.environ.get("SIMULATOR_COMPILE")
    os.environ["SIMULATOR_COMPILE"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SIMULATOR_COMPILE"]
        else:
            os.environ["SIMULATOR_COMPILE"] = before


def starved_blocks() -> int:
    """A tenth of the KV blocks that the one replica has."""
    return resolve_replica(load_scenario(ONE_REPLICA)).engine.num_gpu_blocks // FEWER_BLOCKS


def capacity_per_s(overrides: Sequence[str]) -> float:
    """Requests a second that the one replica completes when far more arrive: over the time that it is saturated."""
    rate = 100.0
    saturated = fresh(
        ONE_REPLICA,
        [
            *overrides,
            f"workload.0.arrivals.rate={rate}",
            f"duration={_SATURATION_REQUESTS / rate}",
            "drain=1h",
        ],
    )
    duration_s: float = saturated.summary["run"]["duration_s"]
    return saturated.requests / duration_s


def run_case(case: Case, scale: float) -> Measurement:
    """One row of the table; ``scale`` shrinks the number of requests."""
    overrides = list(case.overrides)
    if case.starved:
        overrides.append(f"engine.vllm.num-gpu-blocks-override={starved_blocks()}")
    rate = case.rate_per_s
    if case.share_of_capacity is not None:
        rate = case.share_of_capacity * capacity_per_s(overrides)
    if rate is not None:
        overrides.append(f"workload.0.arrivals.rate={rate}")
        if case.requests is not None:
            overrides.append(f"duration={scale * case.requests / rate}")
    if case.duration_s is not None:
        overrides.append(f"duration={scale * case.duration_s}")
    return fresh(case.scenario, overrides)


def curves(requests: int) -> dict[str, list[tuple[int, float]]]:
    """Microseconds of CPU per request, against output length, batch size and replicas."""

    def cost(users: int, output_tokens: int, replicas: int) -> float:
        # As many requests at each point, so that what a run costs once is shared by as many.
        pilot = fresh(ONE_REPLICA, closed_loop(users, output_tokens, replicas, _PILOT_S))
        duration_s = _PILOT_S * requests / pilot.requests
        return fresh(ONE_REPLICA, closed_loop(users, output_tokens, replicas, duration_s)).us_per_request

    return {
        "output tokens (batch 64)": [(n, cost(64, n, 1)) for n in OUTPUT_TOKENS],
        "batch size (200 output tokens)": [(n, cost(n, 200, 1)) for n in BATCH_SIZES],
        "replicas (batch 16, 200 output tokens)": [(n, cost(16, 200, n)) for n in REPLICAS],
    }


def spread(points: Sequence[tuple[int, float]]) -> float:
    """Largest deviation from the curve's middle, as a share of it."""
    costs = [cost for _, cost in points]
    middle = (max(costs) + min(costs)) / 2
    return (max(costs) - middle) / middle


def plot(found: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Cost per request, one panel a curve."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    top = 1.1 * max(cost for points in found.values() for _, cost in points)
    for axes, (label, points) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
        axes.plot(*zip(*points, strict=True), "o-")
        axes.set(xscale="log", xlabel=label, ylim=(0, top))
        axes.set_xticks([n for n, _ in points], [str(n) for n, _ in points], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set_title(f"within ±{100 * spread(points):.0f} %", fontsize=10)
    figure.axes[0].set_ylabel("µs of CPU per request")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _verdict(case: Case, found: Measurement) -> tuple[str, str]:
    if case.bar_requests_per_cpu_s is not None:
        return f"≥ {case.bar_requests_per_cpu_s:,.0f} /s", _mark(
            found.requests_per_cpu_s >= case.bar_requests_per_cpu_s
        )
    assert case.bar_cpu_s is not None
    bar, met = f"≤ {case.bar_cpu_s:g} s", found.cpu_s <= case.bar_cpu_s
    if case.bar_memory_bytes is not None:
        bar += f", {case.bar_memory_bytes / 1e9:g} GB"
        met = met and found.memory_bytes <= case.bar_memory_bytes
    if case.bar_control_plane_share is not None:
        bar += f", {100 * case.bar_control_plane_share:g} %"
        met = met and found.control_plane_share <= case.bar_control_plane_share
    return bar, _mark(met)


def _mark(met: bool) -> str:
    return "[green]met[/]" if met else "[red]not met[/]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of each case's requests")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument(
        "--curves", type=int, default=100_000, help="requests per point of the curves; 0 leaves them out"
    )
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    table = Table(title="Speed: CPU time, imports and plots left out", title_justify="left")
    for column in ("case", "requests", "CPU s", "requests/CPU s", "memory", "control plane", "bar", ""):
        table.add_column(column, justify="left" if column in ("case", "") else "right", no_wrap=True)
    shares = Table(title="Where the CPU time goes (of the Python files, not compiled)", title_justify="left")
    record: dict[str, Any] = {}
    for case in bars():
        if given.only not in case.name:
            continue
        if case.needs is not None and not case.needs.exists():
            console.print(f"{case.name}: skipped, {case.needs.name} is not here")
            continue
        found = run_case(case, given.scale)
        with as_written():
            parts = run_case(case, given.scale * _SHARES_SCALE)
        bar, verdict = _verdict(case, found)
        table.add_row(
            case.name,
            f"{found.requests:,}",
            f"{found.cpu_s:.1f}",
            f"{found.requests_per_cpu_s:,.0f}",
            f"{found.memory_bytes / 1e9:.2f} GB",
            f"{100 * found.control_plane_share:.1f} %",
            bar,
            verdict,
        )
        if not shares.columns:
            for column in ("case", *parts.shares):
                shares.add_column(column, justify="left" if column == "case" else "right")
        shares.add_row(case.name, *(f"{100 * share:.0f} %" for share in parts.shares.values()))
        record[case.name] = {k: v for k, v in dataclasses.asdict(found).items() if k != "summary"}
        record[case.name]["shares"] = parts.shares
    console.print(table)
    console.print(shares)
    if given.curves:
        found_curves = curves(given.curves)
        for label, points in found_curves.items():
            text = ", ".join(f"{n}: {cost:.1f}" for n, cost in points)
            console.print(f"µs per request against {label}: {text}  (within ±{100 * spread(points):.0f} %)")
        plot(found_curves, given.out / "cost_per_request.png")
        record["curves"] = found_curves
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "bench.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
