"""Durations that vary: a cold start phase, a node's boot. One draw comes from one uniform number."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from scipy.special import ndtri

from simulator.scenario.quantities import DurationS, PositiveDurationS, Section


class Spread(Section):
    """A random duration: ``{fixed: 30s}``, ``{median: 40s, sigma: 0.3}`` or ``{min: 10s, max: 20s}``.

    A bare duration such as ``30s`` means fixed. Lognormal unless stated otherwise: published phase times are
    right-skewed, and a lognormal with sigma 0.25 to 0.4 covers their spread.
    """

    fixed: DurationS | None = None
    """Always this long."""
    median: PositiveDurationS | None = None
    """Median of a lognormal."""
    sigma: Annotated[float, Field(ge=0, le=3)] | None = None
    """Standard deviation of the logarithm; 0.3 unless given."""
    min: DurationS | None = None
    """Lower end of a uniform distribution."""
    max: DurationS | None = None
    """Upper end of a uniform distribution."""

    @model_validator(mode="after")
    def _one_kind(self) -> Spread:
        uniform = self.min is not None or self.max is not None
        kinds = (self.fixed is not None) + (self.median is not None) + uniform
        if kinds != 1:
            raise ValueError("expected exactly one of fixed, median (with sigma) or min with max")
        if self.sigma is not None and self.median is None:
            raise ValueError("sigma goes with median")
        if uniform and (self.min is None or self.max is None or self.min > self.max):
            raise ValueError("expected both min and max, min not above max")
        return self

    def quantile_s(self, u: float) -> float:
        """The duration in seconds whose distribution function is ``u``, 0 < u < 1."""
        if self.fixed is not None:
            return self.fixed
        if self.median is not None:
            sigma = 0.3 if self.sigma is None else self.sigma
            return self.median * math.exp(sigma * float(ndtri(u)))
        assert self.min is not None
        assert self.max is not None
        return self.min + (self.max - self.min) * u

    @property
    def mean_s(self) -> float:
        """Mean in seconds."""
        if self.fixed is not None:
            return self.fixed
        if self.median is not None:
            sigma = 0.3 if self.sigma is None else self.sigma
            return self.median * math.exp(sigma * sigma / 2)
        assert self.min is not None
        assert self.max is not None
        return (self.min + self.max) / 2


def _from_bare(value: Any) -> Any:
    return {"fixed": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


SpreadS = Annotated[Spread, BeforeValidator(_from_bare)]
"""A `Spread`; a bare duration is taken as fixed."""
