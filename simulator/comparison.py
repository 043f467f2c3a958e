"""Policies side by side on the same random numbers: what each misses, loses and costs, and by how much they differ.

Replication r of every scenario has the same arrivals, lengths and cold starts (`simulator.draws`), so differences are
taken pair by pair: what chance does to both cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from simulator.statistics.intervals import Interval, PairedDifference, paired_difference, t_interval

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """A figure of a summary.

    Attributes:
        key: for machines.
        title: for people, with the unit.
        of: takes it from a summary.
    """

    key: str
    title: str
    of: Callable[[Summary], float]


def _slo_misses(summary: Summary) -> float:
    """Requests that ended and were not good."""
    requests = summary["requests"]
    ended = requests["total"] - requests["in_flight"]
    share = summary["slo"]["good_share"]
    return float(ended - round(share * ended)) if share is not None else 0.0


MEASURES: Final = (
    Measure("slo_misses", "SLO misses", _slo_misses),
    Measure("lost_requests", "lost requests", lambda s: float(s["requests"]["errors"])),
    Measure("total_usd", "dollars", lambda s: float(s["cost"]["total_usd"])),
)
"""SLO misses are requests that ended and were not good, lost ones among them; lost ones timed out, were rejected or
failed."""


@dataclass(frozen=True)
class Comparison:
    """One measure of one policy, and its difference from the base.

    Attributes:
        interval: over the replications.
        difference: from the base, paired; None for the base itself.
    """

    interval: Interval
    difference: PairedDifference | None


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
    """
    result: dict[str, dict[str, Comparison]] = {}
    for policy, own in summaries.items():
        row = {}
        for measure in measures:
            values = [measure.of(summary) for summary in own]
            against = [measure.of(summary) for summary in summaries[base]]
            difference = None if policy == base else paired_difference(against, values)
            row[measure.key] = Comparison(t_interval(values), difference)
        result[policy] = row
    return result
