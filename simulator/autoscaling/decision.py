"""What a pass of an autoscaler answers, for every autoscaler but the HPA, which has richer answers of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one pass.

    Attributes:
        replicas: the size to write; None leaves the target as it is.
        reason: one word in CamelCase, for filtering events.
        text: one line for a person: what was seen, and what follows from it.
    """

    replicas: int | None
    reason: str
    text: str
