"""When open-loop requests arrive: each process as a rate curve, read through gamma gaps.

A process is a renewal process of unit rate (gaps Gamma(shape b, scale 1/b); b = 1 is Poisson) whose clock is
the integral of a rate curve (`simulator.workload.rate_curve`). With a flat curve that is `vllm bench serve`'s
arrival process: gaps Gamma(burstiness, 1/(rate·burstiness)), and evenly spaced when burstiness is infinite
(vllm/benchmarks/serve.py, get_request).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from simulator.draws import WORDS_PER_DRAW, Draws
from simulator.scenario.arrivals import (
    Arrivals,
    BuiltinArrivals,
    ClosedLoopArrivals,
    ConstantArrivals,
    CurveArrivals,
    DiurnalArrivals,
    GammaArrivals,
    OpenLoopProcess,
    PoissonArrivals,
    SpikeArrivals,
    SumArrivals,
    TraceArrivals,
    WeeklyArrivals,
)
from simulator.scenario.errors import ScenarioError
from simulator.units import PS_PER_S, to_ps, to_s
from simulator.workload.builtin import builtin_model
from simulator.workload.rate_curve import Floats, Ints, RateCurve, cosine_points

CHUNK = 4096
"""Arrivals made at a time. A multiple of the words in a draw; results do not depend on it."""

_DAY_S = 86400.0
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class ArrivalProcess:
    """One open-loop process, ready to be drawn.

    Attributes:
        curve: rate over the time of the entry.
        burstiness: shape of the gaps on the curve's own clock.
        shift: added to every arrival number on that clock; -1 puts the first arrival at time 0.
        num_requests: stop after so many, if not None.
        rescale: stretch so that the last of ``num_requests`` falls at exactly num_requests on that clock.
    """

    curve: RateCurve
    burstiness: float = 1.0
    shift: float = 0.0
    num_requests: int | None = None
    rescale: bool = False


def processes_of(arrivals: Arrivals, duration_ps: int, key: str) -> list[ArrivalProcess]:
    """The open-loop processes of an entry; empty for a closed loop or a trace.

    Args:
        arrivals: the schema's section.
        duration_ps: length of the entry's own time; spikes keep their mean over it.
        key: path of the section, for messages.

    Raises:
        ScenarioError: spikes that leave no room for a base rate of at least 0, or a time beyond 106 days.
    """
    try:
        return _processes_of(arrivals, duration_ps, key)
    except OverflowError:
        raise ScenarioError("a time lies beyond the 106 days that the clock holds", key=key) from None


def _processes_of(arrivals: Arrivals, duration_ps: int, key: str) -> list[ArrivalProcess]:
    if isinstance(arrivals, SumArrivals):
        return [_process_of(part, duration_ps, f"{key}.of.{index}") for index, part in enumerate(arrivals.of)]
    if isinstance(arrivals, ClosedLoopArrivals | TraceArrivals):
        return []
    return [_process_of(arrivals, duration_ps, key)]


def _process_of(process: OpenLoopProcess, duration_ps: int, key: str) -> ArrivalProcess:
    match process:
        case PoissonArrivals():
            return ArrivalProcess(RateCurve.flat(process.rate, duration_ps))
        case GammaArrivals():
            curve = RateCurve.flat(process.rate, duration_ps)
            return ArrivalProcess(
                curve, process.burstiness, num_requests=process.num_requests, rescale=process.rescale
            )
        case ConstantArrivals():
            return ArrivalProcess(RateCurve.flat(process.rate, duration_ps), math.inf, shift=-1.0)
        case SpikeArrivals():
            return ArrivalProcess(_spikes(process, duration_ps, key), process.burstiness)
        case DiurnalArrivals():
            points = cosine_points(
                process.mean_rate, process.relative_amplitude, process.period, process.peak_at
            )
            curve = RateCurve.through(points, duration_ps, period_s=process.period)
            return ArrivalProcess(curve, process.burstiness)
        case WeeklyArrivals():
            curve = RateCurve.through(_week(process), duration_ps, period_s=7 * _DAY_S)
            return ArrivalProcess(curve, process.burstiness)
        case CurveArrivals():
            points = [(point.at, point.rate) for point in process.points]
            return ArrivalProcess(
                RateCurve.through(points, duration_ps, period_s=process.period), process.burstiness
            )
        case BuiltinArrivals():
            model = builtin_model(process.model)
            curve = RateCurve.through(
                model.rate_points(process.mean_rate),
                duration_ps,
                period_s=model.period_s,
                offset_s=process.offset,
            )
            return ArrivalProcess(curve, process.burstiness or model.burstiness)


def _spikes(spikes: SpikeArrivals, duration_ps: int, key: str) -> RateCurve:
    duration_s = to_s(duration_ps)
    if spikes.times is not None:
        starts = sorted(spikes.times)
    else:
        every = spikes.every or duration_s
        first = every / 2 if spikes.first_at is None else spikes.first_at
        starts = [first + every * i for i in range(max(0, math.ceil((duration_s - first) / every)))]
    shape = [(0.0, 0.0)]
    for start in starts:
        top = start + spikes.ramp
        end = top + spikes.hold
        shape += [(start, 0.0), (top, 1.0), (end, 1.0), (end + spikes.decay_s, 0.0)]
    trapezoids = RateCurve.through(shape, duration_ps)
    covered = trapezoids.mean_rate
    if not covered:
        raise ScenarioError(f"no spike starts within the {duration_s:g} s of the entry", key=key)
    share = spikes.peak_factor * covered
    if share > 1.0 + 1e-9 or covered == 1.0:
        raise ScenarioError(
            f"spikes of {spikes.peak_factor:g} times the mean cover {covered:.1%} of the time, which alone "
            f"gives {share:.2f} times mean_rate: shorten them, space them out or lower peak_factor",
            key=key,
        )
    # base·(1 - covered) + peak·covered = mean
    base = spikes.mean_rate * max(0.0, 1.0 - share) / (1.0 - covered)
    peak = spikes.mean_rate * spikes.peak_factor
    return RateCurve(
        trapezoids.knots_ps,
        base + (peak - base) * trapezoids.start_rate,
        base + (peak - base) * trapezoids.end_rate,
    )


def _week(week: WeeklyArrivals) -> list[tuple[float, float]]:
    first = _DAYS.index(week.first_day)
    levels = np.array([week.days[(first + day) % 7] for day in range(7)])
    amplitude = (week.peak_to_trough - 1.0) / (week.peak_to_trough + 1.0)
    day = cosine_points(1.0, amplitude, _DAY_S, week.peak_at)
    noons = (np.arange(-1, 8) + 0.5) * _DAY_S
    times = np.array([d * _DAY_S + t for d in range(7) for t, _ in day[:-1]] + [7 * _DAY_S])
    daily = np.array([rate for _ in range(7) for _, rate in day[:-1]] + [day[0][1]])
    rates = daily * np.interp(times, noons, np.concatenate((levels[-1:], levels, levels[:1])))
    mean = float(np.mean(rates[:-1]))  # knots are evenly spaced and the curve closes
    return list(zip(times.tolist(), (rates * (week.mean_rate / mean)).tolist(), strict=True))


def arrival_times(process: ArrivalProcess, draws: Draws, purpose: str) -> Iterator[Ints]:
    """Arrival times in rising order, in chunks, in picoseconds from the start of the entry.

    Gap n comes from word n mod 4 of entity n div 4 of ``purpose``.
    """
    inverter = process.curve.inverter()
    stretch = 1.0
    if process.rescale and process.num_requests is not None:
        last = 0.0
        for numbers in _renewals(process, draws, purpose):
            last = float(numbers[-1])
        stretch = process.num_requests / last
    for numbers in _renewals(process, draws, purpose):
        values = numbers * stretch + process.shift
        inside = values[: np.searchsorted(values, inverter.total, side="left")]
        times = inverter.times_ps(inside)
        end_ps = int(process.curve.knots_ps[-1])
        yield times[: np.searchsorted(times, end_ps, side="left")]
        if len(inside) < len(values):
            return


def _renewals(process: ArrivalProcess, draws: Draws, purpose: str) -> Iterator[Floats]:
    """Epochs of a unit-rate renewal process with gamma gaps, in chunks."""
    shape, limit = process.burstiness, process.num_requests
    done, last = 0, 0.0
    while limit is None or done < limit:
        count = CHUNK if limit is None else min(CHUNK, limit - done)
        if math.isinf(shape):
            yield np.arange(done + 1, done + count + 1, dtype=np.float64)
        else:
            words = draws.uniforms(purpose, done // WORDS_PER_DRAW, -(-count // WORDS_PER_DRAW))
            uniforms = words.reshape(-1)[:count]
            gaps = -np.log1p(-uniforms) if shape == 1.0 else gammaincinv(shape, uniforms) / shape
            # The carry leads the sum, so that the result does not depend on where chunks end.
            epochs = np.cumsum(np.concatenate(([last], gaps)))[1:]
            last = float(epochs[-1])
            yield epochs
        done += count


def merged_times(processes: list[ArrivalProcess], draws: Draws, purpose: str) -> Iterator[Ints]:
    """Arrival times of the sum of processes, in chunks; part i draws from ``purpose/i``."""
    if len(processes) == 1:
        yield from arrival_times(processes[0], draws, f"{purpose}/0")
        return
    streams = (
        (time for chunk in arrival_times(process, draws, f"{purpose}/{index}") for time in chunk.tolist())
        for index, process in enumerate(processes)
    )
    chunk: list[int] = []
    for time in heapq.merge(*streams):
        chunk.append(time)
        if len(chunk) == CHUNK:
            yield np.array(chunk, dtype=np.int64)
            chunk = []
    if chunk:
        yield np.array(chunk, dtype=np.int64)


def expected_curve(arrivals: Arrivals, duration_ps: int, key: str = "arrivals") -> RateCurve | None:
    """Expected arrivals per second over the entry's own time; None for a closed loop or a trace.

    A process that stops after ``num_requests`` is expected to do so at num_requests / rate.
    """
    processes = processes_of(arrivals, duration_ps, key)
    if not processes:
        return None
    curves = []
    for process in processes:
        curve = process.curve
        if process.num_requests is not None:
            end_ps = to_ps(process.num_requests / float(curve.start_rate[0]))
            if end_ps < duration_ps:
                points = [(0.0, float(curve.start_rate[0])), (end_ps / PS_PER_S, float(curve.start_rate[0]))]
                curve = RateCurve.through([*points, (end_ps / PS_PER_S, 0.0)], duration_ps)
        curves.append(curve)
    return RateCurve.total(curves)
