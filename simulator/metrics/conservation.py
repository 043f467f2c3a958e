"""Conservation: every request that enters ends in exactly one outcome, and the tables agree with each other."""

from __future__ import annotations

import pandas as pd

from simulator.outcomes import Outcome
from simulator.records.results import Tables

ERROR_OUTCOMES = (Outcome.TIMED_OUT, Outcome.REJECTED, Outcome.FAILED)
"""The outcomes that count as errors."""


class ConservationError(Exception):
    """The records contradict each other: a request was lost, doubled or counted twice."""


def outcome_counts(requests: pd.DataFrame) -> dict[Outcome, int]:
    """Requests by outcome, every outcome present."""
    counts = requests["outcome"].value_counts()
    return {outcome: int(counts.get(outcome.label, 0)) for outcome in Outcome}


def check_conservation(tables: Tables) -> None:
    """Hold the tables against each other.

    The timeline counts requests as they come and go, apart from the requests' own rows, so a request that
    was dropped on the way shows as a difference.

    Raises:
        ConservationError: with every contradiction found.
    """
    requests, attempts, timeline = tables.requests, tables.attempts, tables.timeline
    counts = outcome_counts(requests)
    pairs: list[tuple[str, int, str, int]] = [
        ("requests", len(requests), "requests with a known outcome", sum(counts.values())),
        ("requests", len(requests), "distinct request ids", requests["request_id"].nunique()),
        ("attempts", len(attempts), "distinct attempt ids", attempts["attempt_id"].nunique()),
        ("attempts", len(attempts), "attempts counted by requests", int(requests["attempts"].sum())),
    ]
    if len(timeline):
        errors = sum(counts[outcome] for outcome in ERROR_OUTCOMES)
        pairs += [
            ("requests", len(requests), "arrivals in the timeline", int(timeline["arrivals"].sum())),
            ("attempts", len(attempts), "attempts in the timeline", int(timeline["attempts"].sum())),
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
