"""Clients: how long they wait, how they retry, where else they can go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.scenario.quantities import DurationS, Fraction, PositiveDurationS, Section


class Retry(Section):
    """Exponential backoff with jitter under a budget (Google SRE book, "Handling Overload")."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Attempts in all, the first one included."""
    initial_backoff: DurationS = 0.5
    multiplier: Annotated[float, Field(ge=1)] = 2.0
    max_backoff: DurationS = 10.0
    jitter: Literal["full", "equal", "none"] = "full"
    """full: uniform in [0, backoff]; equal: half fixed, half uniform (AWS Architecture Blog, "Exponential
    Backoff and Jitter")."""
    budget: Fraction | None = 0.2
    """Retries per first attempt that all clients together may add (a token bucket); None: no budget."""
    budget_burst: Annotated[float, Field(ge=0)] = 100.0
    """Retries that the bucket holds at the start and at most."""
    on: list[Literal["429", "503", "cut", "timeout"]] = ["429", "503", "cut"]
    """Failures that are retried: refused (429, 503), stream cut by a dying pod, client timeout."""


class Fallback(Section):
    """A paid API that takes a request when the own fleet failed it.

    It is asked when no further attempt is made: retries exhausted, out of budget, or not for this cause. It is
    not asked after a 400 (the request is at fault) nor after the timeout of the whole request (no time is left),
    and that timeout goes on while it answers.
    """

    ttft: DurationS = 0.5
    """Time to its first token."""
    tpot: DurationS = 0.02
    """Time per output token after that."""
    usd_per_million_input_tokens: Annotated[float, Field(ge=0)]
    usd_per_million_output_tokens: Annotated[float, Field(ge=0)]
    error_rate: Fraction = 0.0
    """Share of requests that fail there too."""


class Clients(Section):
    """What every client does; a request is one or more attempts."""

    timeout: PositiveDurationS | None = 120.0
    """Whole request, from the first send to the last token, retries included; None: waits for ever."""
    attempt_timeout: PositiveDurationS | None = None
    """One attempt, from its send to its last token."""
    ttft_timeout: PositiveDurationS | None = None
    """One attempt, from its send to its first token."""
    retry: Retry | None = None
    fallback: Fallback | None = None
