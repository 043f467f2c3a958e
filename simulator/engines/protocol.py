"""What every engine model offers to the replica that hosts it, and what passes between them.

An engine is a deterministic state machine on the integer clock (picoseconds, `simulator.units`). It knows
nothing of SimPy, pods or clients. Its contract:

- ``submit`` and ``abort`` are calls at an instant ``now`` that is never before the last ``advance``, and
  never after ``next_time()``: whoever drives the engine advances it first.
- a schedule decided at time t sees every submission and abort made at times up to and including t before the
  engine was advanced to t; an abort at t applies before the output of a step that ends at t.
- ``retime`` gives other step times at an instant (under the same rule): steps launched from then on, that instant
  included, take them; those in flight end when they would have.
- ``peek`` computes the state at any t from the last advance up to ``next_time()`` and commits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

ContentSegments = tuple[tuple[int, int], ...]
"""Content of a token sequence as (content id, end offset) pairs with rising ends.

An id names the content of its segment *and of all that precedes it* (ids are chained, as vLLM's block
hashes are), so two sequences that carry the same id at the same offsets are equal up to there. Tokens past
the last segment are unique to the request. Segments may run past the prompt: they then name the generated
tokens, which is how the next turn of a conversation hits the blocks of the last answer.
"""


@dataclass(slots=True, init=False)
class EngineRequest:
    """One attempt of a request, as the engine's input queue receives it.

    Attributes:
        request_id: unique in the run (the attempt's id).
        prompt_tokens: length of the prompt, at least 1.
        output_tokens: where the model would stop by itself (EOS), at least 1.
        max_tokens: the cap that the client sends; the request ends at the smaller of the two.
        priority: smaller is more urgent (vLLM's meaning); used by the priority policy only.
        workload: index of the workload it belongs to, for pooled inter-token latencies.
        segments: content of prompt and output, for prefix caching.
        lora: adapter id, or None.
    """

    request_id: int
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    priority: int
    workload: int
    segments: ContentSegments
    lora: int | None

    # Written out: the generated one is not compiled.
    def __init__(
        self,
        request_id: int,
        prompt_tokens: int,
        output_tokens: int,
        max_tokens: int,
        priority: int = 0,
        workload: int = 0,
        segments: ContentSegments = (),
        lora: int | None = None,
    ) -> None:
        self.request_id = request_id
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.max_tokens = max_tokens
        self.priority = priority
        self.workload = workload
        self.segments = segments
        self.lora = lora


class DeliveryKind(IntEnum):
    """What an engine reports to the outside."""

    SCHEDULED = 0
    """First admission to the running batch."""
    FIRST_TOKEN = 1
    FINISHED = 2
    PREEMPTED = 3


@dataclass(slots=True, init=False)
class Delivery:
    """Something that happened to a request at an instant.

    Attributes:
        time_ps: when.
        kind: what.
        request_id: to whom.
        detail: the ``Finish`` for FINISHED, else None.
    """

    time_ps: int
    kind: DeliveryKind
    request_id: int
    detail: Finish | None

    # Written out: the generated one is not compiled.
    def __init__(
        self, time_ps: int, kind: DeliveryKind, request_id: int, detail: Finish | None = None
    ) -> None:
        self.time_ps = time_ps
        self.kind = kind
        self.request_id = request_id
        self.detail = detail


@dataclass(slots=True, init=False)
class Finish:
    """What the engine knows of a request that finished by itself.

    Attributes:
        reason: ``stop`` (EOS) or ``length`` (max_tokens), vLLM's finish reasons.
        output_tokens: tokens generated.
        scheduled_ps: first admission; queue time is this minus the submission.
        first_token_ps: end of the step that produced the first token.
        cached_tokens: prompt tokens found in the prefix cache at the first admission.
        preemptions: how often it was preempted.
        max_gap_ps: largest time between two of its tokens; 0 for a single token.
    """

    reason: str
    output_tokens: int
    scheduled_ps: int
    first_token_ps: int
    cached_tokens: int
    preemptions: int
    max_gap_ps: int

    # Written out: the generated one is not compiled.
    def __init__(
        self,
        reason: str,
        output_tokens: int,
        scheduled_ps: int,
        first_token_ps: int,
        cached_tokens: int,
        preemptions: int,
        max_gap_ps: int,
    ) -> None:
        self.reason = reason
        self.output_tokens = output_tokens
        self.scheduled_ps = scheduled_ps
        self.first_token_ps = first_token_ps
        self.cached_tokens = cached_tokens
        self.preemptions = preemptions
        self.max_gap_ps = max_gap_ps


@dataclass(slots=True, init=False)
class EngineCounters:
    """Monotonic counters, named after the ``vllm:*_total`` metrics they feed.

    Accepted drafts are generation tokens; they come with the token before them, in one inter-token latency.
    """

    steps: int
    busy_ps: int
    prompt_tokens: int
    generation_tokens: int
    prefix_cache_queries: int
    prefix_cache_hits: int
    num_preemptions: int
    spec_decode_draft_tokens: int
    spec_decode_accepted_tokens: int
    requests_finished: int
    requests_aborted: int
    requests_rejected: int

    # Written out: the generated one is not compiled.
    def __init__(
        self,
        steps: int = 0,
        busy_ps: int = 0,
        prompt_tokens: int = 0,
        generation_tokens: int = 0,
        prefix_cache_queries: int = 0,
        prefix_cache_hits: int = 0,
        num_preemptions: int = 0,
        spec_decode_draft_tokens: int = 0,
        spec_decode_accepted_tokens: int = 0,
        requests_finished: int = 0,
        requests_aborted: int = 0,
        requests_rejected: int = 0,
    ) -> None:
        self.steps = steps
        self.busy_ps = busy_ps
        self.prompt_tokens = prompt_tokens
        self.generation_tokens = generation_tokens
        self.prefix_cache_queries = prefix_cache_queries
        self.prefix_cache_hits = prefix_cache_hits
        self.num_preemptions = num_preemptions
        self.spec_decode_draft_tokens = spec_decode_draft_tokens
        self.spec_decode_accepted_tokens = spec_decode_accepted_tokens
        self.requests_finished = requests_finished
        self.requests_aborted = requests_aborted
        self.requests_rejected = requests_rejected

    def copy(self) -> EngineCounters:
        """The counts as they are now."""
        return EngineCounters(
            self.steps,
            self.busy_ps,
            self.prompt_tokens,
            self.generation_tokens,
            self.prefix_cache_queries,
            self.prefix_cache_hits,
            self.num_preemptions,
            self.spec_decode_draft_tokens,
            self.spec_decode_accepted_tokens,
            self.requests_finished,
            self.requests_aborted,
            self.requests_rejected,
        )


@dataclass(slots=True, init=False)
class EngineSnapshot:
    """State of an engine at an instant; ``counters`` is a copy.

    Attributes:
        running: requests in the running batch (``vllm:num_requests_running``).
        waiting: requests admitted to the queue but not running (``vllm:num_requests_waiting``).
        kv_blocks_used: blocks held by requests; cached but free blocks do not count.
        kv_blocks_total: usable blocks (vLLM's null block is not one of them).
    """

    time_ps: int
    running: int
    waiting: int
    kv_blocks_used: int
    kv_blocks_total: int
    counters: EngineCounters

    # Written out: the generated one is not compiled.
    def __init__(
        self,
        time_ps: int,
        running: int,
        waiting: int,
        kv_blocks_used: int,
        kv_blocks_total: int,
        counters: EngineCounters,
    ) -> None:
        self.time_ps = time_ps
        self.running = running
        self.waiting = waiting
        self.kv_blocks_used = kv_blocks_used
        self.kv_blocks_total = kv_blocks_total
        self.counters = counters

    @property
    def kv_cache_usage(self) -> float:
        """Share of the KV blocks held by requests, 0 to 1 (``vllm:kv_cache_usage_perc``)."""
        return self.kv_blocks_used / self.kv_blocks_total


class ItlSink(Protocol):
    """Receives inter-token latencies, pooled over tokens."""

    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        """``count`` gaps first, first+increment, ... each seen by ``weight`` tokens of a workload."""


class Engine(Protocol):
    """A serving engine of one replica. See the module's text for the contract."""

    def submit(self, request: EngineRequest, now: int) -> str | None:
        """Take a request; None if it was accepted, else the reason for which the front end refuses it.

        Reasons: ``queue_full`` (503), ``context_length`` (400: prompt + max_tokens over max_model_len).
        """

    def abort(self, request_id: int, now: int) -> int:
        """Drop a request wherever it is; returns its output tokens so far. Unknown ids: KeyError."""

    def retime(self, step_time: StepTime, now: int) -> None:
        """Steps launched from now on take these times."""

    def next_time(self) -> int | None:
        """The next instant at which the engine must be advanced; None while it is idle."""

    def advance(self, t: int) -> list[Delivery]:
        """Complete every step that ends up to and including t, decide what follows; deliveries in order."""

    def peek(self, t: int) -> EngineSnapshot:
        """State at t, without changing a byte of the result."""


class StepTime(Protocol):
    """How long one engine step takes (package `simulator.step_time`). All results are integer picoseconds."""

    def step_ps(
        self, decode_requests: int, decode_context_tokens: int, prefills: Sequence[tuple[int, int]]
    ) -> int:
        """GPU time of one step.

        Args:
            decode_requests: requests that compute exactly one token behind a full context.
            decode_context_tokens: their contexts before the step (vLLM's num_computed_tokens), summed.
            prefills: (tokens scheduled, context before the step) of every other request.
        """

    def host_ps(self, scheduled_requests: int) -> int:
        """CPU time per step of scheduling, input preparation and output processing.

        Under async scheduling it overlaps the GPU (the step period is the larger of the two); otherwise the
        step takes their sum.
        """

    def decode_terms(self, decode_requests: int) -> tuple[int, int]:
        """(base, per context token) of a pure decode step: ``step_ps(n, c, ()) == base + per_token * c``."""
