"""What a scenario says of its traffic: a list of entries, each arrivals × lengths × sessions.

The entries are independent and are added up.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from simulator.scenario.arrivals import Arrivals
from simulator.scenario.distributions import Count, Time, Tokens
from simulator.scenario.lengths import Lengths
from simulator.scenario.quantities import DurationS, PositiveDurationS, Section
from simulator.scenario.slo import Slo


class PrefixGroup(Section):
    """Sessions that begin with the same system prompt."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the sessions, relative to the other groups."""
    system_prompt_tokens: Annotated[int, Field(ge=0)]
    tenants: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """So many prompts of that length, each with an equal part of the group's sessions."""


class Sessions(Section):
    """Conversations: each turn's prompt is all that came before plus new user tokens.

    The arrival process then starts sessions, and the lengths' input is the new user tokens of a turn. A
    session whose request fails is given up.
    """

    system_prompt_tokens: Annotated[int, Field(ge=0)] = 0
    """Length of the one system prompt that all sessions share."""
    groups: Annotated[list[PrefixGroup], Field(min_length=1)] | None = None
    """Several system prompts, in place of the one."""
    turns: Count = 1
    think_time: Time = 0.0
    """Time from the end of an answer to the next turn."""
    max_prompt_tokens: Tokens | None = None
    """A session ends before a prompt would grow over this; its first prompt is sent whatever its length."""

    @model_validator(mode="after")
    def _one_or_groups(self) -> Self:
        if self.groups is not None and self.system_prompt_tokens:
            raise ValueError("give either system_prompt_tokens or groups")
        return self


class WorkloadConfig(Section):
    """One source of traffic."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the source in the results; its draws hang on the name."""
    arrivals: Arrivals
    lengths: Lengths | None = None
    """Needed unless the arrivals are a trace, which brings its own."""
    sessions: Sessions | None = None
    max_tokens: Tokens | Literal["output"] | None = None
    """Cap that the client sends: a number, ``output`` (exactly the answer's length, as benchmarks with
    ignore_eos do), or none."""
    slo: Slo | None = None
    """Limits that its requests are judged by; the scenario's if not given."""
    priority: int = 0
    """Smaller is more urgent (vLLM's priority scheduling)."""
    start: DurationS = 0.0
    """When the source begins; times in ``arrivals`` count from here."""
    duration: PositiveDurationS | None = None
    """How long it lasts; to the end of the run if not given."""

    @model_validator(mode="after")
    def _trace_brings_lengths(self) -> Self:
        if self.arrivals.kind == "trace":
            if self.lengths is not None or self.sessions is not None:
                raise ValueError(
                    "a trace brings its own lengths and prefixes: leave out lengths and sessions"
                )
        elif self.lengths is None:
            raise ValueError("lengths is missing: only a trace brings its own")
        return self


def _unique_names(workloads: list[WorkloadConfig]) -> list[WorkloadConfig]:
    names = [workload.name for workload in workloads]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two entries are named {name!r}")
    return workloads


Workloads = Annotated[list[WorkloadConfig], Field(min_length=1), AfterValidator(_unique_names)]
"""The type of a scenario's ``workload`` key."""
