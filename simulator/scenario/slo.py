"""Service-level objectives."""

from __future__ import annotations

import math
from functools import cached_property
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

    @cached_property
    def limits_s(self) -> tuple[float, float, float]:
        """Limits of TTFT, TPOT and E2E; infinite where there is none."""
        ttft, tpot, e2e = (math.inf if limit is None else limit for limit in (self.ttft, self.tpot, self.e2e))
        return ttft, tpot, e2e
