"""When requests come: the keys of ``workload.N.arrivals``, one class for each kind.

Times count from the start of the entry. `simulator.workload` gives each kind its meaning.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulator.scenario.distributions import Time, Tokens
from simulator.scenario.lengths import BuiltinModel
from simulator.scenario.quantities import (
    DurationS,
    Fraction,
    PositiveDurationS,
    PositiveRatePerS,
    RatePerS,
    Section,
)

Period = Annotated[PositiveDurationS, Field(le=31 * 86400)]
"""Time after which a curve repeats, at most 31 days."""

Burstiness = Annotated[float, Field(gt=0)]
"""Shape of the gamma distribution of gaps: 1 is Poisson, smaller is burstier, ``.inf`` is evenly spaced."""


class PoissonArrivals(Section):
    """Poisson process of constant rate."""

    kind: Literal["poisson"]
    rate: PositiveRatePerS


class GammaArrivals(Section):
    """Gamma-distributed gaps, as ``vllm bench serve --request-rate --burstiness`` sends them."""

    kind: Literal["gamma"]
    rate: PositiveRatePerS
    burstiness: Burstiness = 1.0
    num_requests: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many requests (``--num-prompts``)."""
    rescale: bool = False
    """Stretch all gaps so that the last of ``num_requests`` arrives at exactly num_requests / rate, as the
    vLLM benchmark does. The entry must last longer than that to see the last one."""

    @model_validator(mode="after")
    def _rescale_needs_count(self) -> Self:
        if self.rescale and self.num_requests is None:
            raise ValueError("rescale needs num_requests: the gaps are stretched to last num_requests / rate")
        return self


class ConstantArrivals(Section):
    """Evenly spaced: request i at i / rate."""

    kind: Literal["constant"]
    rate: PositiveRatePerS


class SpikeArrivals(Section):
    """A base rate with trapezoid spikes; the base is solved for, so that the mean includes the spikes."""

    kind: Literal["spikes"]
    mean_rate: PositiveRatePerS
    """Mean over the whole time of the entry, spikes included."""
    peak_factor: Annotated[float, Field(gt=1)]
    """Rate at the top of a spike, as a multiple of mean_rate."""
    ramp: DurationS
    """Time from the base to the peak."""
    hold: DurationS
    """Time at the peak."""
    decay: DurationS | None = None
    """Time from the peak back to the base; as long as ramp if not given."""
    every: PositiveDurationS | None = None
    """Time from the start of one spike to the start of the next."""
    first_at: DurationS | None = None
    """Start of the first spike; half of ``every`` if not given."""
    times: list[DurationS] | None = None
    """Starts of the spikes, in place of ``every``."""
    burstiness: Burstiness = 1.0

    @property
    def decay_s(self) -> float:
        return self.ramp if self.decay is None else self.decay

    @model_validator(mode="after")
    def _check_spikes(self) -> Self:
        if (self.every is None) == (self.times is None):
            raise ValueError("give either every or times")
        if self.times is not None and (not self.times or self.first_at is not None):
            raise ValueError("times must not be empty, and first_at belongs to every")
        length = self.ramp + self.hold + self.decay_s
        if length <= 0:
            raise ValueError("a spike needs a ramp, hold or decay above 0")
        starts = sorted(self.times or [])
        gaps = [b - a for a, b in pairwise(starts)] if self.every is None else [self.every]
        if any(gap < length for gap in gaps):
            raise ValueError(
                f"spikes overlap: each lasts {length:g} s, the next starts {min(gaps):g} s later"
            )
        return self


class DiurnalArrivals(Section):
    """A cosine around the mean: one peak in each period."""

    kind: Literal["diurnal"]
    mean_rate: PositiveRatePerS
    peak_to_trough: Annotated[float, Field(ge=1)] | None = None
    """Highest rate over lowest rate."""
    amplitude: Fraction | None = None
    """Half of the swing as a share of the mean, in place of peak_to_trough."""
    period: Period = 86400.0
    peak_at: DurationS = 50400.0
    """Time of the first peak; 14 h if not given (the run starts at midnight)."""
    burstiness: Burstiness = 1.0

    @model_validator(mode="after")
    def _one_swing(self) -> Self:
        if (self.peak_to_trough is None) == (self.amplitude is None):
            raise ValueError("give either peak_to_trough or amplitude")
        return self

    @property
    def relative_amplitude(self) -> float:
        if self.amplitude is not None:
            return self.amplitude
        ratio = self.peak_to_trough or 1.0
        return (ratio - 1.0) / (ratio + 1.0)


class WeeklyArrivals(Section):
    """A diurnal cosine whose height differs from day to day; the run starts on ``first_day`` at midnight."""

    kind: Literal["weekly"]
    mean_rate: PositiveRatePerS
    """Mean over a whole week."""
    days: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=7, max_length=7)] = (
        *(1.0,) * 5,
        *(0.6,) * 2,
    )
    """Traffic of Monday to Sunday relative to each other; hours between two noons blend linearly."""
    first_day: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] = "mon"
    peak_to_trough: Annotated[float, Field(ge=1)] = 1.0
    """Highest over lowest rate within a day."""
    peak_at: DurationS = 50400.0
    """Time of day of the peak."""
    burstiness: Burstiness = 1.0

    @model_validator(mode="after")
    def _some_traffic(self) -> Self:
        if not any(self.days):
            raise ValueError("at least one of days must be above 0")
        return self


class CurvePoint(Section):
    """One corner of a rate curve."""

    at: DurationS
    rate: RatePerS


class CurveArrivals(Section):
    """A rate curve with straight lines between given points, constant before the first and after the last."""

    kind: Literal["curve"]
    points: Annotated[list[CurvePoint], Field(min_length=1)]
    period: Period | None = None
    """Repeat the curve after this time; the points then lie within 0 and the period."""
    burstiness: Burstiness = 1.0

    @model_validator(mode="after")
    def _rising(self) -> Self:
        times = [point.at for point in self.points]
        if any(b < a for a, b in pairwise(times)):
            raise ValueError("points must be in time order (two at the same time make a step)")
        if self.period is not None and times[-1] > self.period:
            raise ValueError("points must lie within the period")
        if not any(point.rate for point in self.points):
            raise ValueError("at least one point must have a rate above 0")
        return self


class BuiltinArrivals(Section):
    """The rate curve of a built-in model, repeated: an hour of Azure 2023 or the week of Azure 2024."""

    kind: Literal["builtin"]
    model: BuiltinModel
    mean_rate: PositiveRatePerS | None = None
    """Scale the curve to this mean over its whole length; the trace's own mean if not given."""
    offset: DurationS = 0.0
    """Where in the curve the entry starts."""
    burstiness: Burstiness | None = None
    """In place of the model's own."""


OpenLoopProcess = Annotated[
    PoissonArrivals
    | GammaArrivals
    | ConstantArrivals
    | SpikeArrivals
    | DiurnalArrivals
    | WeeklyArrivals
    | CurveArrivals
    | BuiltinArrivals,
    Field(discriminator="kind"),
]


class SumArrivals(Section):
    """Several open-loop processes added up. Closed loops and traces are added as entries of their own."""

    kind: Literal["sum"]
    of: Annotated[list[OpenLoopProcess], Field(min_length=1)]


class ClosedLoopArrivals(Section):
    """N users, each with one request at a time: the next is sent a think time after the last has ended."""

    kind: Literal["closed-loop"]
    users: Annotated[int, Field(ge=1)]
    think_time: Time = 0.0
    ramp: DurationS = 0.0
    """Spread the users' first requests evenly over this time."""


class TraceArrivals(Section):
    """Replay of a file: arrivals, lengths and shared prefixes come from its rows."""

    kind: Literal["trace"]
    file: Annotated[str, Field(min_length=1)]
    """Path, relative to the scenario file; ``.gz`` is read as such."""
    format: Literal["csv", "azure", "mooncake", "burstgpt"] = "csv"
    prefix_block_tokens: Tokens | None = None
    """Tokens that each prefix block id stands for: needed by a csv that has such ids; mooncake has 512."""
    start: DurationS = 0.0
    """Leave out what comes before this time of the trace, and start there."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read at most so many rows after the start."""
    time_scale: Annotated[float, Field(gt=0)] = 1.0
    """Stretch time: 0.5 replays the trace twice as fast."""
    rate_scale: Annotated[float, Field(gt=0)] = 1.0
    """Send each row so many times on average, in the same time."""
    spread: DurationS = 0.0
    """Resolution of the trace's clock: rows with the same timestamp are spread evenly at random over this
    time (3 s for Mooncake's conversation trace)."""


Arrivals = Annotated[
    PoissonArrivals
    | GammaArrivals
    | ConstantArrivals
    | SpikeArrivals
    | DiurnalArrivals
    | WeeklyArrivals
    | CurveArrivals
    | BuiltinArrivals
    | SumArrivals
    | ClosedLoopArrivals
    | TraceArrivals,
    Field(discriminator="kind"),
]
