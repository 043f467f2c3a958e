"""A real run with what was measured of it, ready to be replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from validation.deployment import Deployment
from validation.requests import RecordedRequest


@dataclass(frozen=True)
class Bar:
    """What a case should reach.

    Attributes:
        figure: path of the figure in the case's results, such as ``all.ttft_ms.mape_pct``.
        at_most: the largest value that reaches it.
    """

    figure: str
    at_most: float


@dataclass(frozen=True)
class RunCase:
    """One run, request by request.

    Attributes:
        name: of the results file.
        title: for readers.
        source: where the run comes from, with commit and licence.
        deployment: what it is replayed on.
        requests: what was sent, on the run's clock.
        measured: a row per request: arrival_s, ttft_ms (client), tpot_ms, e2e_ms (client), queue_ms, scheduled_s.
        timeline: running and waiting at each t_s of the run; None where it was not recorded.
        regimes: per request, the regime that it met, declared from the measured run's load.
        groups: further groups of requests, by name, declared from the load too.
        published: predictions that others published for this run, by who: ttft_ms, tpot_ms and e2e_ms per request.
        prefix_block_tokens: tokens of a block of the requests' ``block_ids``.
        preemptions: measured, if known.
        planned_arrival_s: when the requests were to be sent, if that is known.
        bars: what is to be reached.
        notes: what a reader should know.
    """

    name: str
    title: str
    source: str
    deployment: Deployment
    requests: list[RecordedRequest]
    measured: pd.DataFrame
    timeline: pd.DataFrame | None
    regimes: pd.Series
    groups: dict[str, pd.Series]
    published: dict[str, pd.DataFrame] = field(default_factory=dict)
    prefix_block_tokens: int = 16
    preemptions: int | None = None
    planned_arrival_s: pd.Series | None = None
    bars: tuple[Bar, ...] = ()
    notes: tuple[str, ...] = ()


def describe(deployment: Deployment) -> dict[str, Any]:
    """The deployment, for a results file."""
    plan = deployment.plan
    return {
        "model": plan.model.name,
        "gpu": plan.gpu.id,
        "tp": plan.gpus,
        "dtype": plan.dtype,
        "vllm": plan.engine.vllm_version,
        "kv_blocks": plan.engine.num_gpu_blocks,
        "kv_blocks_from": plan.kv_blocks_from,
        "max_num_seqs": plan.engine.max_num_seqs,
        "max_num_batched_tokens": plan.engine.max_num_batched_tokens,
        "profile": plan.step_time.profile.name,
        "step_times": plan.step_time.source,
        "front_end_in_ms": plan.frontend_in_ps / 1e9,
        "front_end_in_us_per_token": plan.frontend_in_ps_per_token / 1e6,
        "front_end_out_ms": plan.frontend_out_ps / 1e9,
    }
