"""How node time becomes dollars, and capacity that is committed to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.scenario.quantities import DurationS, PositiveDurationS, Section


class Billing(Section):
    """What a node's life is rounded to when it ends."""

    minimum: DurationS = 60.0
    """Least time that a node is paid for: 60s on AWS (Linux) and GCP (their pricing pages)."""
    granularity: PositiveDurationS = 1.0
    """Time is rounded up to a multiple of this: 1s on AWS and GCP; 1h for a provider that bills by the hour."""


class Commitment(Section):
    """Nodes paid for throughout, used or not, at a lower price; nodes beyond them pay the pool's price."""

    nodes: Annotated[int, Field(ge=1)]
    term: Literal["1-year", "3-year"] = "1-year"
    """Which of the catalogue's prices is meant when none is given here."""
    usd_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """Price."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Price as a share of the pool's on-demand price at the start, in place of usd_per_gpu_hour."""

    @model_validator(mode="after")
    def _one_price(self) -> Commitment:
        if self.usd_per_gpu_hour is not None and self.share is not None:
            raise ValueError("give either usd_per_gpu_hour or share")
        return self
