"""The figures of requests: of all of them, and of each workload's.

A column of ten million rows is 80 MB, so each is read once, gives all its figures, and is gone before the next one
is read; only outcomes, causes and workloads (a byte a row) stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from simulator.metrics.conservation import ERROR_OUTCOMES, outcome_counts
from simulator.metrics.distributions import Described, describe, label_counts, ratio
from simulator.outcomes import Outcome
from simulator.records.tables import Tables
from simulator.scenario.slo import Slo

LATENCIES: Final = ("ttft_s", "tpot_s", "e2e_s", "queue_s")
_FALLBACK_LATENCIES: Final = ("ttft_s", "e2e_s")
_TOKENS: Final = ("input_tokens", "output_tokens")


@dataclass
class Cohort:
    """Requests that are looked at together.

    Attributes:
        total: how many.
        outcomes: how many by outcome, every outcome present.
        errors_by_cause: how many ended in an error, by cause.
        ended: how many have ended.
        good: of these, within every limit of the SLO.
        tokens: of all of them, by column.
        completed_tokens: of those that the own fleet completed, by column.
        latency: of those that the own fleet completed, by column.
    """

    total: int
    outcomes: Mapping[Outcome, int]
    errors_by_cause: Mapping[str, int]
    ended: int
    good: int
    tokens: dict[str, int] = field(default_factory=dict)
    completed_tokens: dict[str, int] = field(default_factory=dict)
    latency: dict[str, Described] = field(default_factory=dict)

    @property
    def completed(self) -> int:
        """How many the own fleet completed."""
        return self.outcomes[Outcome.COMPLETED]

    @property
    def good_share(self) -> float | None:
        """Share of the good among those that ended; None if none did."""
        return ratio(self.good, self.ended)


@dataclass
class RequestFigures:
    """All that the summary says of requests.

    Attributes:
        all: every request.
        by_workload: those of each workload, by its name.
        served_tokens: of requests that the own fleet or the fallback API completed, by column.
        fallback_latency: of requests that fell back, by column.
        over_limit: completed requests over a limit of the SLO, by column; None where it has no limit.
    """

    all: Cohort
    by_workload: dict[str, Cohort]
    served_tokens: dict[str, int] = field(default_factory=dict)
    fallback_latency: dict[str, Described] = field(default_factory=dict)
    over_limit: dict[str, int | None] = field(default_factory=dict)


def limits(slo: Slo) -> dict[str, float | None]:
    """The limits of an SLO, by column."""
    return {"ttft_s": slo.ttft, "tpot_s": slo.tpot, "e2e_s": slo.e2e}


def request_figures(tables: Tables, workloads: Iterable[str], slo: Slo) -> RequestFigures:
    """Read the requests of a run, a column at a time.

    Args:
        tables: its records.
        workloads: their names.
        slo: whose limits are held against completed requests.
    """
    outcomes = tables.column("requests", "outcome")
    workload_of = tables.column("requests", "workload")
    everyone = np.ones(len(outcomes), bool)
    members = {name: np.asarray(workload_of == name) for name in workloads}
    whole, *parts = _cohorts(tables, outcomes, [everyone, *members.values()])
    figures = RequestFigures(whole, dict(zip(members, parts, strict=True)))
    groups = [(whole, everyone), *zip(parts, members.values(), strict=True)]
    completed = np.asarray(outcomes == Outcome.COMPLETED.label)
    fell_back = np.asarray(outcomes == Outcome.FELL_BACK.label)
    for name in _TOKENS:
        tokens = tables.column("requests", name)
        for cohort, within in groups:
            cohort.tokens[name] = int(tokens[within].sum())
            cohort.completed_tokens[name] = int(tokens[within & completed].sum())
        figures.served_tokens[name] = int(tokens[completed | fell_back].sum())
        del tokens  # before the next one is read
    judged_by = limits(slo)
    for name in LATENCIES:
        seconds = tables.column("requests", name)
        for cohort, within in groups:
            cohort.latency[name] = describe(seconds, within & completed)
        if name in _FALLBACK_LATENCIES:
            figures.fallback_latency[name] = describe(seconds, fell_back)
        if name in judged_by:
            limit = judged_by[name]
            over = None if limit is None else int(np.count_nonzero(seconds[completed] > limit))
            figures.over_limit[name] = over
        del seconds
    return figures


def _cohorts(tables: Tables, outcomes: pd.Categorical, members: Iterable[np.ndarray]) -> list[Cohort]:
    """Cohorts by the masks of their members, without tokens and latencies."""
    causes, judged = (tables.column("requests", name) for name in ("cause", "slo_good"))
    good = judged.fillna(False).to_numpy(dtype=bool)
    ended = ~judged.isna()
    failed = outcomes.isin([outcome.label for outcome in ERROR_OUTCOMES])
    return [
        Cohort(
            total=int(np.count_nonzero(within)),
            outcomes=outcome_counts(outcomes[within]),
            errors_by_cause=label_counts(causes[within & failed]),
            ended=int(np.count_nonzero(within & ended)),
            good=int(np.count_nonzero(within & good)),
        )
        for within in members
    ]
