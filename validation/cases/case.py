"""A real run with what was measured of it, ready to be replayed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from validation.deployment import Deployment
from validation.requests import RecordedRequest
from validation.single_replica import ReplicaModel


@dataclass(frozen=True)
class Bar:
    """What a case should reach.

    Attributes:
        figure: path of the figure in the case's results, such as ``all.ttft_ms.mape_pct``.
        at_most: the largest value that reaches it.
    """

    figure: str
    at_most: float


@dataclass(frozen=True, kw_only=True)
class ReplayCase(ABC):
    """Requests that a real engine got, and what was measured of them.

    Attributes:
        name: of the results file.
        title: for readers.
        requests: what was sent, on the run's clock.
        measured: a row per request: arrival_s, ttft_ms (client), tpot_ms, e2e_ms (client), queue_ms, scheduled_s.
        timeline: running and waiting at each t_s of the run; None where it was not recorded.
        regimes: per request, the regime that it met, declared from the measured run's load.
        groups: further groups of requests, by name, declared from the load too.
        published: predictions that others published for this run, by who: ttft_ms, tpot_ms and e2e_ms per request.
        prefix_block_tokens: tokens of a block of the requests' ``block_ids``.
        preemptions: measured, if known.
        bars: what is to be reached.
        notes: what a reader should know.
    """

    name: str
    title: str
    requests: list[RecordedRequest]
    measured: pd.DataFrame
    timeline: pd.DataFrame | None
    regimes: pd.Series
    groups: dict[str, pd.Series]
    published: dict[str, pd.DataFrame] = field(default_factory=dict)
    prefix_block_tokens: int = 16
    preemptions: int | None = None
    bars: tuple[Bar, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    @abstractmethod
    def replica(self) -> ReplicaModel:
        """What it is replayed on."""


@dataclass(frozen=True, kw_only=True)
class RunCase(ReplayCase):
    """One run of others, described by a ``vllm serve`` configuration.

    Attributes:
        source: where the run comes from, with commit and licence.
        deployment: what it is replayed on.
        planned_arrival_s: when the requests were to be sent, if that is known.
    """

    source: str
    deployment: Deployment
    planned_arrival_s: pd.Series | None = None

    @property
    def replica(self) -> ReplicaModel:
        return self.deployment.plan


def describe(deployment: Deployment) -> dict[str, Any]:
    """The deployment, for a results file."""
    plan = deployment.plan
    return {
        "model": plan.model.name,
        "gpu": plan.gpu.id,
        "tp": plan.gpus,
        "dtype": plan.dtype,
        **describe_replica(plan, plan.kv_blocks_from),
    }


def describe_replica(replica: ReplicaModel, kv_blocks_from: str) -> dict[str, Any]:
    """What a replica is made of, for a results file."""
    return {
        "vllm": replica.engine.vllm_version,
        "kv_blocks": replica.engine.num_gpu_blocks,
        "kv_blocks_from": kv_blocks_from,
        "max_num_seqs": replica.engine.max_num_seqs,
        "max_num_batched_tokens": replica.engine.max_num_batched_tokens,
        "profile": replica.step_time.profile.name,
        "step_times": replica.step_time.source,
        "front_end_in_ms": replica.frontend_in_ps / 1e9,
        "front_end_in_us_per_token": replica.frontend_in_ps_per_token / 1e6,
        "front_end_out_ms": replica.frontend_out_ps / 1e9,
    }
