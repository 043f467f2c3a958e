"""What a summary needs beside the tables: identity of the run, the fleet's ledger, where step times come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from simulator.billing import ApiBill, Phase, Statement
from simulator.billing.money import PS_PER_HOUR
from simulator.scenario.slo import Slo


@dataclass(frozen=True)
class PriceFacts:
    """Which price a pool paid and where it is from.

    Attributes:
        usd_per_gpu_hour: at the start of the run.
        committed_usd_per_gpu_hour: of its commitment, or None.
        rule: how the price was chosen.
        where: cloud, instance type and region of the catalogue's row; None for a price of the scenario.
        as_of: date of the catalogue's row, if it has one.
        source: of the catalogue's row.
    """

    usd_per_gpu_hour: float
    committed_usd_per_gpu_hour: float | None = None
    rule: str = "stated in the scenario"
    where: str | None = None
    as_of: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class PoolLedger:
    """What one node pool used and cost.

    Attributes:
        name: the pool.
        capacity: what was bought.
        gpu_ps: GPU-picoseconds for which nodes were paid, by what the GPUs did.
        bill: what that cost.
        price: at which price.
        nodes_started: nodes added in the run, those at time 0 included.
        nodes_reclaimed: of these taken back by the cloud.
    """

    name: str
    capacity: Literal["on-demand", "spot"]
    gpu_ps: Mapping[Phase, int]
    bill: Statement
    price: PriceFacts
    nodes_started: int = 0
    nodes_reclaimed: int = 0

    @property
    def gpu_hours(self) -> float:
        """GPUs times the hours for which their nodes were paid."""
        return sum(self.gpu_ps.values()) / PS_PER_HOUR


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
    """

    source: Literal["profile", "roofline"]
    name: str
    text: str
    known_error: dict[str, float] = field(default_factory=dict)
    out_of_range: dict[str, int] = field(default_factory=dict)
    steps: int = 0


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
        peak_provisioned_micro_usd: what the most GPUs that ever served at once would have cost throughout.
        fallback: spent on the fallback API.
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
    peak_provisioned_micro_usd: int
    fallback: ApiBill
    step_time: StepTimeTrust
    notes: tuple[str, ...] = ()
