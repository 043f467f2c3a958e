"""A request inside the skipping engine, and the batches that it is in.

A decoding request is not touched by the steps that it takes part in: it advances with every schedule and
every output of the engine, so two numbers say all (`Sequence.base`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from simulator.engines.protocol import EngineRequest
from simulator.kv_cache.content import ContentTable

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer where compiled

QUEUED: Final = 0
"""In the engine's input queue."""
WAITING: Final = 1
PREFILLING: Final = 2
"""Running and scheduled on its own: it computes its prompt, or a step had no budget left for it."""
DECODING: Final = 3
"""Running, one token in every step."""
LAST_TOKEN: Final = 4
"""Running, but no longer scheduled: the token in flight is its last."""
FINISHED: Final = 5


class Sequence(ContentTable):
    """Scheduling state of one request.

    Schedules and outputs are numbered, empty ones too. After schedule k a decoding request has computed
    ``base + k`` tokens; after output h it knows ``base + h + 1``, if its first step as one that samples,
    ``joined``, is among the outputs.

    Attributes:
        arrival: place in the order of submission.
        order: place in the order of the running batch, greater at each admission.
        known: prompt and output tokens whose step was processed; not kept while it decodes.
        computed: tokens computed or in flight; not kept while it decodes.
        cached: full blocks cached; while it decodes, those when it joined.
        finish_at: number of the output that brings its last token while it decodes, else 0.
        last_token_ps, max_gap_ps: not kept while it decodes.
    """

    __slots__ = (
        "arrival",
        "base",
        "cached",
        "computed",
        "final_tokens",
        "finish_at",
        "first_token_ps",
        "joined",
        "known",
        "last_token_ps",
        "length_limit",
        "max_gap_ps",
        "num_cached_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "order",
        "priority",
        "request_id",
        "scheduled_ps",
        "status",
        "submitted_ps",
        "workload",
    )

    def __init__(self, request: EngineRequest, arrival: int, block_size: int, now: int) -> None:
        super().__init__(arrival, request.segments, request.lora, block_size)
        prompt, output, cap = request.prompt_tokens, request.output_tokens, request.max_tokens
        self.request_id = request.request_id
        self.workload = request.workload
        self.priority = request.priority
        self.arrival = arrival
        self.status: i64 = QUEUED
        self.submitted_ps: i64 = now
        self.num_prompt_tokens: i64 = prompt
        self.known: i64 = prompt
        self.length_limit: i64 = prompt + cap
        self.final_tokens: i64 = prompt + (output if output < cap else cap)
        self.computed: i64 = 0
        self.cached: i64 = 0
        self.finish_at: i64 = 0
        self.order: i64 = 0
        self.joined: i64 = 0
        self.base: i64 = 0
        self.num_preemptions: i64 = 0
        self.num_cached_tokens: i64 = 0
        self.scheduled_ps: i64 = 0
        self.first_token_ps: i64 = 0
        self.last_token_ps: i64 = 0
        self.max_gap_ps: i64 = 0

    @property
    def urgency(self) -> tuple[int, int]:
        """Order of the priority policy; the smallest goes first."""
        return (self.priority, self.arrival)


class Batch:
    """What one schedule put on the GPU.

    Attributes:
        num_scheduled: requests in it; 0 if it is empty.
        weights: decoding requests that will get a token from it, by workload. Never changed, but replaced.
        tokens: the sum of ``weights``.
        entries: all others that will get one, in order.
        start_ps, gpu_ps, end_ps: its time on the GPU.
    """

    __slots__ = ("end_ps", "entries", "gpu_ps", "num_scheduled", "start_ps", "tokens", "weights")

    def __init__(
        self,
        num_scheduled: i64,
        weights: dict[int, int],
        tokens: i64,
        start_ps: i64,
        gpu_ps: i64,
        end_ps: i64,
    ) -> None:
        self.num_scheduled: i64 = num_scheduled
        self.weights = weights
        self.tokens: i64 = tokens
        self.entries: list[Sequence] | tuple[()] = ()
        self.start_ps: i64 = start_ps
        self.gpu_ps: i64 = gpu_ps
        self.end_ps: i64 = end_ps

    def drop(self, workload: int) -> None:
        """One of its decoding requests has left."""
        self.weights = without(self.weights, workload)
        self.tokens -= 1


def without(weights: dict[int, int], workload: int) -> dict[int, int]:
    """The weights with one request less."""
    weights = weights.copy()
    count = weights[workload] - 1
    if count:
        weights[workload] = count
    else:
        del weights[workload]
    return weights
