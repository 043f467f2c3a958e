"""A rate over time in straight pieces, its integral Λ, and the exact inverse of Λ.

A non-homogeneous Poisson process of rate λ(t) is a unit-rate process read through Λ⁻¹ (Çinlar, "Introduction
to Stochastic Processes", 1975, chapter 4.7): Λ is piecewise quadratic here, so the inverse is a square root
and no arrival is rejected or approximated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.units import PS_PER_S, to_ps

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RateCurve:
    """Rate from 0 to the last knot: piece i runs from knots_ps[i] to knots_ps[i + 1], linear in between.

    Attributes:
        knots_ps: n + 1 rising times; the first is 0.
        start_rate: rate per second at the start of each of the n pieces.
        end_rate: rate per second at its end (a step between pieces is allowed).
    """

    knots_ps: Ints
    start_rate: Floats
    end_rate: Floats

    @classmethod
    def flat(cls, rate_per_s: float, duration_ps: int) -> Self:
        rate = np.array([rate_per_s])
        return cls(np.array([0, duration_ps], dtype=np.int64), rate, rate)

    @classmethod
    def through(
        cls,
        points: Sequence[tuple[float, float]],
        duration_ps: int,
        *,
        period_s: float | None = None,
        offset_s: float = 0.0,
    ) -> Self:
        """A curve through (time in s, rate) points in time order, from ``offset_s`` on, for ``duration_ps``.

        It is constant before the first point and after the last. With a period it repeats; the points then
        lie within [0, period]. Two points at one time make a step.

        Raises:
            OverflowError: a point beyond what 64 bits of picoseconds hold, 106 days.
        """
        times = np.array([round(t * PS_PER_S) for t, _ in points], dtype=np.int64)
        rates = np.array([rate for _, rate in points], dtype=np.float64)
        offset = to_ps(offset_s)
        span = to_ps(period_s) if period_s is not None else max(int(times[-1]), offset + duration_ps) + 1
        times = np.array([0, *times.tolist(), span], dtype=np.int64)
        rates = np.concatenate((rates[:1], rates, rates[-1:]))
        offset %= span
        repeats = np.arange((offset + duration_ps - 1) // span + 1, dtype=np.int64)
        starts = (repeats[:, None] * span + times[:-1]).ravel() - offset
        ends = (repeats[:, None] * span + times[1:]).ravel() - offset
        curve = cls(
            np.concatenate((starts[:1], ends)),
            np.tile(rates[:-1], len(repeats)),
            np.tile(rates[1:], len(repeats)),
        )
        return curve.clipped(duration_ps)

    def clipped(self, duration_ps: int) -> Self:
        """The part from 0 to ``duration_ps``, without pieces of no length."""
        inner = self.knots_ps[(self.knots_ps > 0) & (self.knots_ps < duration_ps)]
        knots = np.unique(np.concatenate(([0], inner, [duration_ps])))
        starts = self._rate(knots[:-1], side="right")
        ends = self._rate(knots[1:], side="left")
        return type(self)(knots, starts, ends)

    def scaled(self, factor: float) -> Self:
        return type(self)(self.knots_ps, self.start_rate * factor, self.end_rate * factor)

    @classmethod
    def total(cls, curves: Sequence[Self]) -> Self:
        """Sum of curves of equal duration."""
        knots = np.unique(np.concatenate([curve.knots_ps for curve in curves]))
        starts = sum((c._rate(knots[:-1], side="right") for c in curves), np.zeros(len(knots) - 1))
        ends = sum((c._rate(knots[1:], side="left") for c in curves), np.zeros(len(knots) - 1))
        return cls(knots, starts, ends)

    def _rate(self, t_ps: Ints, side: str) -> Floats:
        """Rate at times; ``side`` says which limit to take at a step."""
        index = np.searchsorted(self.knots_ps, t_ps, side="right" if side == "right" else "left") - 1
        index = np.clip(index, 0, len(self.start_rate) - 1)
        length = (self.knots_ps[index + 1] - self.knots_ps[index]).astype(np.float64)
        share = (t_ps - self.knots_ps[index]) / np.where(length > 0, length, 1.0)
        start, end = self.start_rate[index], self.end_rate[index]
        result: Floats = start + (end - start) * share
        return result

    def rate_at(self, t_s: ArrayLike) -> Floats:
        """Rate per second at times in seconds; 0 outside the curve."""
        t_ps = np.round(np.asarray(t_s, dtype=np.float64) * PS_PER_S).astype(np.int64)
        inside = (t_ps >= 0) & (t_ps < self.knots_ps[-1])
        result: Floats = np.where(inside, self._rate(t_ps, side="right"), 0.0)
        return result

    @property
    def cumulative(self) -> Floats:
        """Λ at the knots: expected arrivals up to each; shape (n + 1,)."""
        lengths = np.diff(self.knots_ps) / PS_PER_S
        areas = 0.5 * (self.start_rate + self.end_rate) * lengths
        return np.concatenate(([0.0], np.cumsum(areas)))

    @property
    def mean_rate(self) -> float:
        return float(self.cumulative[-1]) / (int(self.knots_ps[-1]) / PS_PER_S)

    def inverter(self) -> CurveInverter:
        return CurveInverter(self)


class CurveInverter:
    """Λ⁻¹ of one curve."""

    def __init__(self, curve: RateCurve) -> None:
        self._knots_ps = curve.knots_ps
        self._cumulative = curve.cumulative
        self._start = curve.start_rate
        self._length_s = np.diff(curve.knots_ps) / PS_PER_S
        self._slope = (curve.end_rate - curve.start_rate) / self._length_s
        self.total = float(self._cumulative[-1])
        """Λ at the end: values at or over it have no time."""

    def times_ps(self, values: Floats) -> Ints:
        """Times at which Λ reaches ``values`` (rising, from 0 to below ``total``), in picoseconds."""
        # side="right" skips pieces of rate 0: an arrival is at the end of a silence, never within it.
        index = np.searchsorted(self._cumulative, values, side="right") - 1
        excess = values - self._cumulative[index]
        rate = self._start[index]
        root = np.sqrt(np.maximum(rate * rate + 2.0 * self._slope[index] * excess, 0.0))
        denominator = rate + root
        # This form of the quadratic's root has no cancellation, and holds for slope 0.
        into = np.divide(2.0 * excess, denominator, out=np.zeros_like(excess), where=denominator > 0)
        # Rates next to 0 underflow in the square: the piece's end and the order bound what comes of it.
        into = np.minimum(into, self._length_s[index])
        times = self._knots_ps[index] + np.round(into * PS_PER_S).astype(np.int64)
        result: Ints = np.maximum.accumulate(np.minimum(times, self._knots_ps[index + 1]))
        return result


def cosine_points(
    mean: float, relative_amplitude: float, period_s: float, peak_at_s: float
) -> list[tuple[float, float]]:
    """Points of mean·(1 + a·cos) at each 1/288 of a period (5 minutes of a day); their mean is exact."""
    steps = 288
    return [
        (
            period_s * i / steps,
            mean * (1.0 + relative_amplitude * math.cos(2 * math.pi * (i / steps - peak_at_s / period_s))),
        )
        for i in range(steps + 1)
    ]
