"""The accuracy page's section on the loads of our own captures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from validation.accuracy_text import (
    METRICS,
    STATISTICS,
    aggregate_cells,
    facts,
    milliseconds,
    number,
    pct,
    signed,
)
from validation.results import figure

_HEAD: Final = """\
## Own captures, load by load

Traffic on a real vLLM, replayed at the client's arrivals with the captured engine's own settings.
`python -m validation.run` finds every capture below `calibration/records`; `--plots FOLDER` draws each load. A fitted
profile is of the same capture's sweeps; no load is fitted. A load's name is what its plan meant it to be; which regimes
its requests met stands beside.

A row *again* is no prediction: it holds a run of a load against the run before, the same requests at the same times. So
far the machine itself differs from one run to the next.
"""

_KINDS: Final = {
    (None, None): "",
    (False, None): ", a number of tokens computed before",
    (True, None): ", a number of tokens for the first time",
    (False, False): ", a number of tokens computed before, no pause",
    (False, True): ", a number of tokens computed before, after a pause",
    (True, False): ", a number of tokens for the first time, no pause",
    (True, True): ", a number of tokens for the first time, after a pause",
}


def loads_section(cases: Sequence[dict[str, Any]]) -> str:
    """Every captured engine with its loads, in one table; then each engine's details."""
    lines = [_HEAD, *_table(cases)]
    for case in cases:
        lines += ["", f"### {case['title']}\n", *facts(case)]
        if case["groups"]:
            lines += ["", *_regimes(case), "", *_aggregates(case), "", *_throughput(case)]
        if case.get("steps"):
            lines += ["", *_steps(case["steps"])]
    return "\n".join(lines)


def _table(cases: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield _header("engine and load", "met", "requests")
    for case in cases:
        for load in case["loads"]:
            met = ", ".join(
                f"{regime} {count}" if len(load["met"]) > 1 else regime
                for regime, count in load.get("met", {}).items()
            )
            what = f"{case['case']}: {load['load']}"
            yield _row(load.get("error", {}), what, met or "—", str(load["requests"]))
            if "noise" in load:
                again = f"*again*: {load['load']} against {load['again']}"
                yield _row(load["noise"], again, "", str(load["requests"]))


def _regimes(case: dict[str, Any]) -> Iterator[str]:
    yield _header("requests of all loads", "of")
    for name, group in case["groups"].items():
        yield _row(group, name, str(group["requests"]))


def _header(*first: str) -> str:
    """Two lines: the columns, and the rule below them."""
    columns = [*first]
    for name in METRICS.values():
        columns += [f"{name} MAPE", f"{name} median, p90", f"{name} bias"]
    columns.append("KS: TTFT, TPOT, E2E")
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"


def _row(errors: dict[str, Any], *first: str) -> str:
    cells = [*first]
    for metric in METRICS:
        absolute = [
            milliseconds(figure(errors, f"{metric}.{name}")) for name in ("median_abs_ms", "p90_abs_ms")
        ]
        cells += [
            pct(figure(errors, f"{metric}.mape_pct")),
            ", ".join(absolute) if metric in errors else "—",
            signed(figure(errors, f"{metric}.bias_pct")),
        ]
    cells.append(", ".join(number(figure(errors, f"{metric}.ks")) for metric in METRICS))
    return f"| {' | '.join(cells)} |"


def _aggregates(case: dict[str, Any]) -> Iterator[str]:
    yield f"| predicted for measured | | {' | '.join(STATISTICS)} |"
    yield "| --- | --- |" + " --- |" * len(STATISTICS)
    for load in case["loads"]:
        for errors, name in (
            (load["error"], load["load"]),
            (load.get("noise", {}), f"*again*: {load['load']} for {load.get('again')}"),
        ):
            for metric, label in METRICS.items():
                if metric not in errors:
                    continue
                yield f"| {name} | {label} | {aggregate_cells(errors[metric])} |"


def _throughput(case: dict[str, Any]) -> Iterator[str]:
    yield "| predicted for measured | makespan | output tokens/s | preemptions | running, mean | waiting, mean |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for load in case["loads"]:
        predicted, measured = load["aggregate"]["predicted"], load["aggregate"]["measured"]
        if "makespan_s" not in predicted:
            continue
        known = measured["preemptions"]
        cells = [
            f"{predicted['makespan_s']:.1f} s for {measured['makespan_s']:.1f} s",
            f"{predicted['output_tokens_per_s']:.0f} for {measured['output_tokens_per_s']:.0f}",
            f"{predicted['preemptions']} for {'—' if known is None else known}",
        ]
        for name in ("running", "waiting"):
            means = load.get("timeline", {}).get(name)
            cells.append(f"{means['predicted_mean']:.1f} for {means['measured_mean']:.1f}" if means else "—")
        yield f"| {load['load']} | {' | '.join(cells)} |"


def _steps(steps: Sequence[dict[str, Any]]) -> Iterator[str]:
    means = []
    for kind in dict.fromkeys(step["kind"] for step in steps):
        mine = [step for step in steps if step["kind"] == kind]
        number_of = sum(step["steps"] for step in mine)
        mean = sum(step["steps"] * step["mean_error_pct"] for step in mine) / number_of
        means.append(f"{signed(mean)} ({kind}, {number_of} steps)")
    yield f"Mean error of the profile on single steps of these loads: {', '.join(means)}."
    yield "By what a load does to an engine, medians; the last column is the sum over all:"
    yield ""
    yield "| steps | number | profile | measured less profile | measured / profile | in all |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for step in steps:
        yield (
            f"| {step['kind']}{_KINDS[step['new_size'], step['after_idle']]} | {step['steps']} | "
            f"{milliseconds(step['profile_ms'])} | {step['measured_less_profile_ms']:+.2f} ms | "
            f"{step['measured_per_profile']:.3f} | {step['excess_s']:+.2f} s |"
        )
