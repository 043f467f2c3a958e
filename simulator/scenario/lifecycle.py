"""How pods may be disrupted, and which go first."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from simulator.scenario.quantities import PositiveDurationS, Section


def _count_or_percent(value: int | str) -> int | str:
    if isinstance(value, str) and not re.fullmatch(r"\d+%", value):
        raise ValueError(f"expected a number of pods or a percentage such as 25%, not {value!r}")
    if isinstance(value, int) and value < 0:
        raise ValueError(f"expected at least 0, not {value}")
    return value


PodCount = Annotated[
    Annotated[int, Field(strict=True)] | Annotated[str, Field(strict=True)], AfterValidator(_count_or_percent)
]
"""A number of pods, or a percentage of the replicas such as ``25%``."""


def pods_of(value: int | str, replicas: int, *, round_up: bool = True) -> int:
    """Pods of a `PodCount`: the number, or the percentage of so many replicas."""
    if isinstance(value, int):
        return value
    hundredths = int(value[:-1]) * replicas
    return -(-hundredths // 100) if round_up else hundredths // 100


class DisruptionBudget(Section):
    """A PodDisruptionBudget (policy/v1); drains keep to it, what takes a node by force does not."""

    min_available: PodCount | None = None
    """minAvailable: so many must stay ready; a percentage is rounded up."""
    max_unavailable: PodCount | None = None
    """maxUnavailable: so many may be missing; a percentage is rounded up."""

    @model_validator(mode="after")
    def _one_of_them(self) -> DisruptionBudget:
        if (self.min_available is None) == (self.max_unavailable is None):
            raise ValueError("expected exactly one of min_available, max_unavailable")
        return self

    def needed(self, replicas: int) -> int:
        """Ready pods that must stay, of a Deployment of this size."""
        if self.min_available is not None:
            return pods_of(self.min_available, replicas)
        assert self.max_unavailable is not None
        return max(0, replicas - pods_of(self.max_unavailable, replicas))


class DeletionCost(Section):
    """controller.kubernetes.io/pod-deletion-cost, written time and again: requests that the pod has in flight."""

    interval: PositiveDurationS = 30.0
    """How often; in between the annotation is stale."""
