"""Service-level objectives."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simulator.scenario.quantities import Fraction, PositiveDurationS, Section


class Slo(Section):
    """A request is good if it is answered within every limit given (goodput as ``vllm bench serve`` has it).

    Answered means by the own fleet or by the fallback API: the user cannot tell them apart, the bill can.

    The objective is met when the share of good requests among all that ended is at least ``target``.
    """

    ttft: PositiveDurationS | None = None
    tpot: PositiveDurationS | None = None
    """Mean time per output token after the first."""
    e2e: PositiveDurationS | None = None
    target: Annotated[Fraction, Field(gt=0)] = 0.99

    def is_met(self, ttft_s: float, tpot_s: float | None, e2e_s: float) -> bool:
        """Whether an answer is good; an answer of one token (``tpot_s`` None) meets any ``tpot``."""
        return (
            (self.ttft is None or ttft_s <= self.ttft)
            and (self.tpot is None or tpot_s is None or tpot_s <= self.tpot)
            and (self.e2e is None or e2e_s <= self.e2e)
        )
