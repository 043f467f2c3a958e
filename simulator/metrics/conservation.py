"""Conservation: every request that enters ends in exactly one outcome, and the tables agree with each other."""

from __future__ import annotations

import numpy as np
import pandas as pd

from simulator.metrics.distributions import label_counts
from simulator.outcomes import Outcome
from simulator.records.tables import Tables

ERROR_OUTCOMES = (Outcome.TIMED_OUT, Outcome.REJECTED, Outcome.FAILED)
"""The outcomes that count as errors."""


class ConservationError(Exception):
    """The records contradict each other: a request was lost, doubled or counted twice."""


def outcome_counts(outcomes: pd.Categorical) -> dict[Outcome, int]:
    """Requests by outcome, every outcome present."""
    counts = label_counts(outcomes)
    return {outcome: counts.get(outcome.label, 0) for outcome in Outcome}


def check_conservation(tables: Tables) -> None:
    """Hold the tables against each other.

    The timeline counts requests as they come and go, apart from the requests' own rows, so a request that
    was dropped on the way shows as a difference.

    Raises:
        ConservationError: with every contradiction found.
    """
    requests, attempts, timeline = tables.rows("requests"), tables.rows("attempts"), tables.timeline
    counts = outcome_counts(tables.column("requests", "outcome"))
    pairs: list[tuple[str, int, str, int]] = [
        ("requests", requests, "requests with a known outcome", sum(counts.values())),
        ("requests", requests, "distinct request ids", _distinct(tables.column("requests", "request_id"))),
        ("attempts", attempts, "distinct attempt ids", _distinct(tables.column("attempts", "attempt_id"))),
        (
            "attempts",
            attempts,
            "attempts counted by requests",
            int(tables.column("requests", "attempts").sum()),
        ),
    ]
    if len(timeline):
        errors = sum(counts[outcome] for outcome in ERROR_OUTCOMES)
        pairs += [
            ("requests", requests, "arrivals in the timeline", int(timeline["arrivals"].sum())),
            ("attempts", attempts, "attempts in the timeline", int(timeline["attempts"].sum())),
            (
                "completed requests",
                counts[Outcome.COMPLETED],
                "completed in the timeline",
                int(timeline["completed"].sum()),
            ),
            (
                "requests that fell back",
                counts[Outcome.FELL_BACK],
                "fell back in the timeline",
                int(timeline["fell_back"].sum()),
            ),
            ("requests with an error", errors, "errors in the timeline", int(timeline["errors"].sum())),
        ]
    wrong = [f"{count} {what}, but {other} {name}" for what, count, name, other in pairs if count != other]
    if wrong:
        raise ConservationError("; ".join(wrong))


def _distinct(ids: np.ndarray) -> int:
    """How many different ones; puts them in order, for a hash table would be many times as large."""
    ids.sort()
    return int(np.count_nonzero(ids[1:] != ids[:-1])) + 1 if len(ids) else 0
