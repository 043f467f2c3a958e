"""Figures as the accuracy page writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

METRICS: Final = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "e2e_ms": "E2E"}
STATISTICS: Final = ("mean", "p50", "p90", "p95", "p99")


def pct(value: float | None) -> str:
    """An error of unknown sign."""
    return "—" if value is None else f"{value:.2f} %" if value < 10 else f"{value:.1f} %"


def signed(value: float | None) -> str:
    """An error with its sign."""
    return "—" if value is None else f"{value:+.1f} %"


def number(value: float | None) -> str:
    """A distance of distributions."""
    return "—" if value is None else f"{value:.2f}"


def milliseconds(value: float | None) -> str:
    """A duration; in seconds from ten of them on."""
    if value is None:
        return "—"
    return (
        f"{value / 1e3:.1f} s"
        if value >= 10_000
        else f"{value:.0f} ms"
        if value >= 100
        else f"{value:.1f} ms"
        if value >= 1
        else f"{value:.2f} ms"
    )


def aggregate_cells(errors: dict[str, Any]) -> str:
    """Cells of a metric's `STATISTICS`, predicted for measured."""
    return " | ".join(
        f"{milliseconds(value['predicted'])} for {milliseconds(value['measured'])}, {signed(value['error_pct'])}"
        for value in (errors[statistic] for statistic in STATISTICS)
    )


def facts(case: dict[str, Any]) -> Iterator[str]:
    """What a run is, and what it is replayed on."""
    yield f"{case['requests']} requests; {case['source']}."
    deployment = case.get("deployment")
    if deployment:
        yield (
            f"Step times: `{deployment['profile']}` ({deployment['step_times']}). KV blocks: {deployment['kv_blocks']} "
            f"({deployment['kv_blocks_from']}); max_num_seqs {deployment['max_num_seqs']}, max_num_batched_tokens "
            f"{deployment['max_num_batched_tokens']}. Front end: {deployment['front_end_in_ms']:g} ms in, "
            f"{deployment['front_end_out_ms']:g} ms out."
        )
    for note in case["notes"]:
        yield f"Note: {note}."
