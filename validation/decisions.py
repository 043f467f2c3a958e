"""What a scheduler did with a schedule, in the form in which two of them are compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from simulator.engines.protocol import Delivery, EngineCounters
from simulator.engines.vllm.plain import StepRecord

Output = tuple[int, int, str]
"""(time in ps, request id, ``first``, the reason of the end or of the refusal)."""


@dataclass
class Decisions:
    """What one scheduler did with one schedule.

    Attributes:
        steps: every call of ``schedule``.
        outputs: first tokens and ends in order.
        refused: requests that the front end refused.
        prefix_cache: tokens looked up and found by requests never preempted (vLLM's counters).
        marks: rare events that the steps do not show; see `validation.coverage`. Recorded from vLLM only.
    """

    steps: list[StepRecord] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    refused: list[Output] = field(default_factory=list)
    prefix_cache: tuple[int, int] = (0, 0)
    marks: set[str] = field(default_factory=set)


@dataclass
class Course:
    """What one of our engines showed to the outside, for comparing one with the other.

    Attributes:
        deliveries: all of them, in order.
        looks: (time, running, waiting, blocks used) at every delivery.
        counters: at the end.
        gaps: tokens by workload and inter-token latency in ps.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    looks: list[tuple[int, int, int, int]] = field(default_factory=list)
    counters: EngineCounters = field(default_factory=EngineCounters)
    gaps: Counter[tuple[int, int]] = field(default_factory=Counter)
