"""A request inside the engine, and the queues in which it waits.

Follows ``vllm/v1/request.py`` and ``vllm/v1/core/sched/request_queue.py``.
"""

from __future__ import annotations

from enum import IntEnum

from simulator.engines.protocol import EngineRequest
from simulator.kv_cache.manager import BlockTable


class RequestStatus(IntEnum):
    """Where a request is; a preempted one is WAITING again."""

    WAITING = 0
    RUNNING = 1
    FINISHED = 2


class Request(BlockTable):
    """Scheduling state of one request.

    vLLM's ``num_output_placeholders`` (tokens in flight under async scheduling) needs no counter here: while
    a request decodes, it is ``num_computed_tokens + 1 - num_tokens``; before that it is 0.

    Attributes:
        arrival: place in the order of submission.
        num_prompt_tokens: length of the prompt.
        num_tokens: prompt and the output tokens whose step was processed.
        num_computed_tokens: tokens whose KV is computed or in flight.
        length_limit: ``num_tokens`` at which max_tokens stops the request, which vLLM knows beforehand.
        final_tokens: ``num_tokens`` at which it stops, by max_tokens or by itself.
        schedule_check_at: ``num_computed_tokens`` from which on a decode must ask the KV cache manager.
        output_check_at: ``num_tokens`` from which on a new token must be looked at: it is the last, or the
            last but one, after which schedules under async scheduling pass over the request.
        num_spec_tokens: drafts that the next step checks.
        in_prefill: whether its last step left a part of the sequence to compute.
        num_stale_outputs: steps in flight when it was preempted; their tokens still count.
        num_preemptions: how often it was preempted.
        num_cached_tokens: prompt tokens found in the prefix cache at the first admission; -1 before it.
        scheduled_ps: time of the first admission.
        first_token_ps: end of the step that gave the first token.
        last_token_ps: end of the step that gave the last token so far.
        max_gap_ps: largest time between two tokens so far.
    """

    __slots__ = (
        "arrival",
        "final_tokens",
        "first_token_ps",
        "in_prefill",
        "last_token_ps",
        "length_limit",
        "max_gap_ps",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "num_spec_tokens",
        "num_stale_outputs",
        "num_tokens",
        "output_check_at",
        "priority",
        "request_id",
        "schedule_check_at",
        "scheduled_ps",
        "status",
        "workload",
    )

    def __init__(self, request: EngineRequest, arrival: int) -> None:
        super().__init__(arrival, request.segments, request.lora)
        self.request_id = request.request_id
        self.workload = request.workload
        self.priority = request.priority
        self.arrival = arrival
        self.status = RequestStatus.WAITING
        self.num_prompt_tokens = request.prompt_tokens
        self.num_tokens = request.prompt_tokens
        self.num_computed_tokens = 0
        self.length_limit = request.prompt_tokens + request.max_tokens
        self.final_tokens = request.prompt_tokens + min(request.output_tokens, request.max_tokens)
        self.schedule_check_at = 0
        self.output_check_at = 0
        self.num_spec_tokens = 0
        self.in_prefill = False
        self.num_stale_outputs = 0
        self.num_preemptions = 0
        self.num_cached_tokens = -1
        self.scheduled_ps = 0
        self.first_token_ps = 0
        self.last_token_ps = 0
        self.max_gap_ps = 0

    @property
    def num_output_tokens(self) -> int:
        return self.num_tokens - self.num_prompt_tokens

    @property
    def finish_reason(self) -> str:
        """``stop`` if it ends by itself before max_tokens, else ``length``."""
        return "stop" if self.final_tokens < self.length_limit else "length"

    @property
    def urgency(self) -> tuple[int, int]:
        """Order of the priority policy: priority, then arrival; the smallest goes first."""
        return (self.priority, self.arrival)
