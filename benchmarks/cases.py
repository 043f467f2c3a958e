"""What `make bench` measures: scenarios, how many requests, and the bar of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ONE_REPLICA: Final = HERE / "scenarios" / "one-replica.yaml"
MOONCAKE: Final = HERE / "scenarios" / "mooncake.yaml"
SPIKY: Final = HERE.parent / "experiments" / "spiky.yaml"
AZURE_WEEK: Final = HERE.parent / "experiments" / "azure-2024-week.yaml"

FEWER_BLOCKS: Final = 10
"""The KV-starved case has this fraction of the blocks."""


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        name: of the row.
        scenario: its file.
        overrides: assignments on top of it.
        rate_per_s: arrival rate; None leaves the scenario's.
        requests: how many are wanted; sets the duration together with the rate.
        duration_s: simulated time; without it and without ``requests`` the scenario's, whatever the scale.
        share_of_capacity: take this share of the measured capacity as the rate.
        starved: leave a tenth of the KV blocks.
        bar_requests_per_cpu_s: the bar; None for a bar in seconds.
        bar_cpu_s: the bar; None for a bar in requests per CPU second.
        bar_memory_bytes: largest resident memory, if that is barred too.
        bar_control_plane_share: largest share of the CPU time in the control plane, if that is barred too.
        needs: a file without which the case is skipped.
    """

    name: str
    scenario: Path
    overrides: tuple[str, ...] = ()
    rate_per_s: float | None = None
    requests: int | None = None
    duration_s: float | None = None
    share_of_capacity: float | None = None
    starved: bool = False
    bar_requests_per_cpu_s: float | None = None
    bar_cpu_s: float | None = None
    bar_memory_bytes: float | None = None
    bar_control_plane_share: float | None = None
    needs: Path | None = None


def shared_data() -> Path:
    """Folder of real traces, where there is one."""
    return Path(os.environ.get("LLM_SIM_SHARED", HERE.parent.parent / "shared")) / "data"


def bars() -> list[Case]:
    """The table of bars, at full size."""
    trace = shared_data() / "workloads" / "mooncake_conversation.csv.gz"
    return [
        Case(
            "1 replica, 3 req/s", ONE_REPLICA, rate_per_s=3.0, requests=500_000, bar_requests_per_cpu_s=60_000
        ),
        Case(
            "1 replica, at the knee (95 % of capacity)",
            ONE_REPLICA,
            requests=200_000,
            share_of_capacity=0.95,
            bar_requests_per_cpu_s=40_000,
        ),
        Case(
            "1 replica, KV-starved (a tenth of the blocks)",
            ONE_REPLICA,
            requests=100_000,
            share_of_capacity=0.95,
            starved=True,
            bar_requests_per_cpu_s=8_000,
        ),
        Case(
            "4 replicas, least outstanding, 12 req/s",
            ONE_REPLICA,
            ("fleet.replicas=4",),
            rate_per_s=12.0,
            requests=500_000,
            bar_requests_per_cpu_s=40_000,
        ),
        Case(
            "Mooncake trace, 8 x Llama-3.1-70B TP4",
            MOONCAKE,
            (f"workload.0.arrivals.file={trace}",),
            bar_requests_per_cpu_s=4_000,
            needs=trace,
        ),
        Case(
            "1 million requests, autoscaled, half spot",
            SPIKY,
            duration_s=125_000,
            bar_cpu_s=40,
            bar_memory_bytes=1e9,
        ),
        Case("experiments/spiky.yaml", SPIKY, bar_cpu_s=6),
        Case(
            "10 million requests, the Azure 2024 week",
            AZURE_WEEK,
            duration_s=7 * 86_400,
            bar_cpu_s=600,
            bar_memory_bytes=1e9,
            bar_control_plane_share=0.1,
        ),
    ]


def closed_loop(users: int, output_tokens: int, replicas: int, duration_s: float) -> tuple[str, ...]:
    """Overrides that keep ``users`` requests running all the time on each replica, for the cost curves."""
    arrivals = f"{{kind: closed-loop, users: {users * replicas}, think_time: 0s}}"
    lengths = f"{{kind: fixed, input: 500, output: {output_tokens}}}"
    return (
        f"fleet.replicas={replicas}",
        f"workload.0.arrivals={arrivals}",
        f"workload.0.lengths={lengths}",
        f"duration={duration_s}",
        "engine.vllm.max-num-seqs=256",
    )
