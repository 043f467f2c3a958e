"""What a summary needs beside the tables: identity of the run, the fleet's ledger, where step times come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from simulator.scenario.slo import Slo


@dataclass(frozen=True)
class PoolLedger:
    """What one node pool used and cost.

    Attributes:
        name: the pool.
        capacity: what was bought.
        gpu_hours: GPUs times the hours for which their nodes were paid.
        cost_usd: what that cost.
        nodes_started: nodes added in the run, those at time 0 included.
        nodes_reclaimed: of these taken back by the cloud.
    """

    name: str
    capacity: Literal["on-demand", "spot"]
    gpu_hours: float
    cost_usd: float
    nodes_started: int = 0
    nodes_reclaimed: int = 0


@dataclass(frozen=True)
class StepTimeTrust:
    """Where step times come from and how far they are to be trusted.

    Attributes:
        source: ``profile`` (measured) or ``roofline`` (from data sheets).
        name: of the profile or the roofline's GPU.
        text: one or two sentences for the reader.
        known_error: relative error by regime (such as ``pure decode``: 0.04); empty if nobody measured it.
        out_of_range: steps outside the range that was measured, by what was exceeded.
        steps: engine steps in all.
        validated: errors of runs with these step times against real ones, by case and regime
            (`simulator.step_time.validated`); empty if there was none.
    """

    source: Literal["profile", "roofline"]
    name: str
    text: str
    known_error: dict[str, float] = field(default_factory=dict)
    out_of_range: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    validated: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class RunFacts:
    """One run, apart from its tables.

    Attributes:
        scenario: its name.
        scenario_digest: hash of the scenario as it was run.
        seed: of the run.
        simulator_version: release that ran it.
        duration_s: simulated time from the start to the end; rates are over it.
        slo: the objectives.
        model: name of the model served.
        engine: engine and version, such as ``vLLM 0.32``.
        gpu: GPU id of the catalogue.
        gpus_per_replica: tensor times pipeline parallel size.
        pools: the fleet's ledger.
        fallback_usd: spent on the fallback API.
        step_time: where step times come from.
        notes: what a reader of the results must know (unchecked version, trace replay, ...).
    """

    scenario: str
    scenario_digest: str
    seed: int
    simulator_version: str
    duration_s: float
    slo: Slo
    model: str
    engine: str
    gpu: str
    gpus_per_replica: int
    pools: tuple[PoolLedger, ...]
    fallback_usd: float
    step_time: StepTimeTrust
    notes: tuple[str, ...] = ()
