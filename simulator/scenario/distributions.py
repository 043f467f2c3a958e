"""Random times, counts and token numbers as a scenario writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from simulator.scenario.quantities import DurationS, PositiveDurationS, Section

Tokens = Annotated[int, Field(ge=1)]
"""A number of tokens, at least 1."""


class ExponentialTime(Section):
    """Exponentially distributed time."""

    kind: Literal["exponential"]
    mean: PositiveDurationS


class _Lognormal(Section):
    """A lognormal distribution by any two of its figures (as they are before clipping and rounding)."""

    kind: Literal["lognormal"] = "lognormal"
    sigma: Annotated[float, Field(ge=0)] | None = None
    """Standard deviation of the logarithm."""

    def mu_sigma(self) -> tuple[float, float]:
        """Mean and standard deviation of the logarithm.

        Raises:
            ValueError: not exactly two figures, or two that no lognormal distribution has.
        """
        normal = NormalDist()
        # Each figure is exp(mu + a·sigma + b·sigma²); two of them give a quadratic in sigma.
        forms = {"mean": (0.0, 0.5), "median": (0.0, 0.0)} | {
            f"p{percent}": (normal.inv_cdf(percent / 100), 0.0) for percent in (95, 99)
        }
        given = [(key, v) for key in forms if (v := getattr(self, key)) is not None]
        if len(given) + (self.sigma is not None) != 2:
            raise ValueError(f"give exactly two of {', '.join(forms)}, sigma")
        (key, value), *other = given
        a, b = forms[key]
        sigma = self.sigma
        if sigma is None:
            other_key, other_value = other[0]
            linear, quadratic = forms[other_key][0] - a, forms[other_key][1] - b
            log_ratio = math.log(other_value / value)
            sigma = _smallest_root(linear, quadratic, log_ratio)
            if sigma is None:
                raise ValueError(
                    f"no lognormal distribution has {key} {value:g} and {other_key} {other_value:g}"
                )
        return math.log(value) - a * sigma - b * sigma * sigma, sigma

    @model_validator(mode="after")
    def _solvable(self) -> Self:
        self.mu_sigma()
        return self


def _smallest_root(linear: float, quadratic: float, target: float) -> float | None:
    """Smallest s ≥ 0 with linear·s + quadratic·s² = target, or None."""
    if target == 0:
        return 0.0
    if quadratic == 0:
        root = target / linear
        return root if root >= 0 else None
    discriminant = linear * linear + 4 * quadratic * target
    if discriminant < 0:
        return None
    roots = [(-linear + sign * math.sqrt(discriminant)) / (2 * quadratic) for sign in (1, -1)]
    return min((root for root in roots if root >= 0), default=None)


class LognormalTime(_Lognormal):
    """Lognormally distributed time."""

    mean: PositiveDurationS | None = None
    median: PositiveDurationS | None = None
    p95: PositiveDurationS | None = None
    p99: PositiveDurationS | None = None


class LognormalTokens(_Lognormal):
    """Lognormally distributed tokens, clipped to min and max, then rounded."""

    mean: Annotated[float, Field(gt=0)] | None = None
    median: Annotated[float, Field(gt=0)] | None = None
    p95: Annotated[float, Field(gt=0)] | None = None
    p99: Annotated[float, Field(gt=0)] | None = None
    min: Tokens = 1
    max: Tokens | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


def _kind_or_scalar(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("kind"))
    return str(getattr(value, "kind", "constant"))


Time = Annotated[
    Annotated[DurationS, Tag("constant")]
    | Annotated[ExponentialTime, Tag("exponential")]
    | Annotated[LognormalTime, Tag("lognormal")],
    Discriminator(_kind_or_scalar),
]
"""A random time: a plain duration is always the same; else a distribution."""


class GeometricCount(Section):
    """Geometric number, at least 1: after each turn the conversation goes on with the same probability."""

    kind: Literal["geometric"]
    mean: Annotated[float, Field(ge=1)]
    max: Annotated[int, Field(ge=1, le=10_000)] = 1000


class UniformCount(Section):
    """Uniform over the whole numbers from min to max."""

    kind: Literal["uniform"]
    min: Annotated[int, Field(ge=1)]
    max: Annotated[int, Field(ge=1, le=10_000)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


Count = Annotated[
    Annotated[Annotated[int, Field(ge=1, le=10_000)], Tag("constant")]
    | Annotated[GeometricCount, Tag("geometric")]
    | Annotated[UniformCount, Tag("uniform")],
    Discriminator(_kind_or_scalar),
]
