"""What clients have counted, for the timeline."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ClientCounters:
    """Counts of logical requests by what became of them; of an interval or of a run.

    Attributes:
        arrivals: requests sent for the first time.
        attempts: attempts sent to the own fleet.
        completed: answered by the own fleet.
        fell_back: answered by the fallback API.
        errors: timed out, rejected or failed.
        cut: attempts whose stream a dying pod broke.
        slo_good: ended within every limit of the SLO.
    """

    arrivals: int = 0
    attempts: int = 0
    completed: int = 0
    fell_back: int = 0
    errors: int = 0
    cut: int = 0
    slo_good: int = 0

    def plus(self, other: ClientCounters) -> ClientCounters:
        """The sum of two."""
        return ClientCounters(
            self.arrivals + other.arrivals,
            self.attempts + other.attempts,
            self.completed + other.completed,
            self.fell_back + other.fell_back,
            self.errors + other.errors,
            self.cut + other.cut,
            self.slo_good + other.slo_good,
        )


@dataclass(slots=True)
class IntervalStats(ClientCounters):
    """What happened since the last look, as clients saw it.

    Attributes:
        ttft_s: first send to first token, of the first tokens that came in the interval; a retried request may
            appear once per attempt that got so far.
        tpot_s: of the requests that completed or fell back in the interval, if they had two tokens or more.
    """

    ttft_s: list[float] = field(default_factory=list)
    tpot_s: list[float] = field(default_factory=list)
