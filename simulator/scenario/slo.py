"""Service-level objectives."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simulator.scenario.quantities import Fraction, PositiveDurationS, Section


class Slo(Section):
    """A request is good if it completes within every limit given (goodput as ``vllm bench serve`` has it).

    The objective is met when the share of good requests among all that ended is at least ``target``.
    """

    ttft: PositiveDurationS | None = None
    tpot: PositiveDurationS | None = None
    """Mean time per output token after the first."""
    e2e: PositiveDurationS | None = None
    target: Annotated[Fraction, Field(gt=0)] = 0.99
