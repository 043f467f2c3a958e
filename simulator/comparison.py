"""Policies side by side on the same random numbers: what each misses, loses and costs, and by how much they differ.

Replication r of every scenario has the same arrivals, lengths and cold starts (`simulator.draws`), so differences are
taken pair by pair: what chance does to both cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from simulator.statistics.intervals import Interval, PairedDifference, holm, paired_difference, t_interval

Summary = Mapping[str, Any]


class UnknownFigureError(KeyError):
    """The summaries have no such figure."""


@dataclass(frozen=True)
class Measure:
    """A figure of a summary.

    Attributes:
        key: for machines.
        title: for people, with the unit.
        of: takes it from a summary; None where it is undefined (a p99 of nothing).
    """

    key: str
    title: str
    of: Callable[[Summary], float | None]


def _slo_misses(summary: Summary) -> float:
    """Requests that ended and were not good."""
    requests = summary["requests"]
    ended = requests["total"] - requests["in_flight"]
    share = summary["slo"]["good_share"]
    return float(ended - round(share * ended)) if share is not None else 0.0


NAMED: Final = {
    measure.key: measure
    for measure in (
        Measure("slo_misses", "SLO misses", _slo_misses),
        Measure("lost_requests", "lost requests", lambda s: float(s["requests"]["errors"])),
        Measure("total_usd", "dollars", lambda s: float(s["cost"]["total_usd"])),
        Measure("ttft_p99_s", "p99 TTFT [s]", lambda s: s["latency"]["ttft_s"]["p99"]),
        Measure("gpu_hours", "GPU hours", lambda s: float(s["fleet"]["gpu_hours"])),
    )
}
"""SLO misses are requests that ended and were not good, lost ones among them; lost ones timed out, were rejected or
failed."""

MEASURES: Final = tuple(NAMED[key] for key in ("slo_misses", "lost_requests", "ttft_p99_s", "total_usd"))
"""What is compared unless somebody asks for other figures."""


def measures(keys: Iterable[str]) -> tuple[Measure, ...]:
    """Figures by name: one of `NAMED`, or a path in the summary such as ``engine.preemptions``."""
    return tuple(NAMED[key] if key in NAMED else _at_path(key) for key in keys)


def _at_path(path: str) -> Measure:
    parts = path.split(".")
    # Where a cause of failure does not occur the summary does not list it.
    absent = 0.0 if any(part.endswith("by_cause") for part in parts[:-1]) else None

    def of(summary: Summary) -> float | None:
        found: Any = summary
        for part in parts:
            if not isinstance(found, Mapping):
                raise UnknownFigureError(path)
            if part not in found:
                if absent is None:
                    raise UnknownFigureError(path)
                return absent
            found = found[part]
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise UnknownFigureError(path)
        return float(found)

    return Measure(path, ".".join(parts[-2:]), of)


@dataclass(frozen=True)
class Comparison:
    """One measure of one policy, and its difference from the base.

    Attributes:
        interval: over the replications that have the figure; None if none has.
        difference: from the base, paired; None for the base itself and if no pair has the figure.
        adjusted_p: of the difference, by Holm's method over all differences of the comparison; None where
            `difference` has no p-value.
    """

    interval: Interval | None
    difference: PairedDifference | None
    adjusted_p: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the difference holds with a family-wise error of 5 %."""
        return self.adjusted_p is not None and self.adjusted_p < 0.05


def compare(
    summaries: Mapping[str, Sequence[Summary]], base: str, measures: Sequence[Measure] = MEASURES
) -> dict[str, dict[str, Comparison]]:
    """Every measure of every policy.

    Args:
        summaries: of the replications in their order, by policy.
        base: whom the others are compared with.
        measures: what is compared.

    Returns:
        By policy and by the measure's key.

    Raises:
        ValueError: unequal numbers of replications.
        UnknownFigureError: a measure that the summaries do not have.
    """
    raw: dict[tuple[str, str], tuple[Interval | None, PairedDifference | None]] = {}
    for policy, own in summaries.items():
        if len(own) != len(summaries[base]):
            raise ValueError(f"{policy} has {len(own)} replications, {base} has {len(summaries[base])}")
        for measure in measures:
            values = [measure.of(summary) for summary in own]
            against = [measure.of(summary) for summary in summaries[base]]
            present = [value for value in values if value is not None]
            pairs = [(a, b) for a, b in zip(against, values, strict=True) if a is not None and b is not None]
            raw[policy, measure.key] = (
                t_interval(present) if present else None,
                paired_difference([a for a, _ in pairs], [b for _, b in pairs])
                if policy != base and pairs
                else None,
            )
    tested = {
        at: difference.p_value
        for at, (_, difference) in raw.items()
        if difference is not None and difference.p_value is not None
    }
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {
        policy: {
            measure.key: Comparison(*raw[policy, measure.key], adjusted.get((policy, measure.key)))
            for measure in measures
        }
        for policy in summaries
    }


def figure_text(mean: float, half_width: float | None, *, signed: bool = False) -> str:
    """``1,234 ± 56``: as many digits as the size of the figure asks for."""
    half = half_width or 0.0
    size = max(abs(mean), half)
    digits = 0 if size >= 100 else 2 if size >= 1 or size == 0 else min(6, 2 - math.floor(math.log10(size)))
    number = f"{mean:+,.{digits}f}" if signed else f"{mean:,.{digits}f}"
    return number if half == 0 else f"{number} ± {half:,.{digits}f}"


def interval_text(interval: Interval | None, *, signed: bool = False) -> str:
    """The same of an interval; a dash where there is none."""
    return "–" if interval is None else figure_text(interval.mean, interval.half_width, signed=signed)
