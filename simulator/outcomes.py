"""How requests and attempts end. Every request that enters ends in exactly one outcome (conservation)."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Outcome(IntEnum):
    """End of a logical request."""

    COMPLETED = 0
    TIMED_OUT = 1
    REJECTED = 2
    FAILED = 3
    FELL_BACK = 4
    IN_FLIGHT = 5

    @property
    def label(self) -> str:
        """Lower-case name with hyphens, as results files write it."""
        return self.name.lower().replace("_", "-")


class Cause(StrEnum):
    """Why a request or an attempt did not complete; empty when it did."""

    NONE = ""
    CONTEXT_LENGTH = "context_length"
    """400: prompt + max_tokens over max_model_len; never retried."""
    GATEWAY_QUEUE_FULL = "gateway_queue_full"
    """429: the gateway's queue is full."""
    GATEWAY_QUEUE_TIMEOUT = "gateway_queue_timeout"
    """503: no replica took it in time."""
    ENGINE_QUEUE_FULL = "engine_queue_full"
    """503: vLLM's max_num_queued_reqs or max_num_queued_tokens."""
    CUT_SPOT_RECLAIM = "cut_spot_reclaim"
    """The stream broke because a spot node went away."""
    CUT_TERMINATION = "cut_termination"
    """The stream broke because the pod was stopped: scale-down, rollout."""
    CUT_FAILURE = "cut_failure"
    """The stream broke because the pod crashed."""
    CUT_PARTITION = "cut_partition"
    """The stream broke because the network between gateway and pod did."""
    UNREACHABLE = "unreachable"
    """503: the gateway's connection to the pod timed out."""
    TIMEOUT_TTFT = "timeout_ttft"
    TIMEOUT_ATTEMPT = "timeout_attempt"
    TIMEOUT_REQUEST = "timeout_request"
    FALLBACK_ERROR = "fallback_error"

    @property
    def status(self) -> int:
        """HTTP status that the client sees; 0 for none (broken stream, own timeout)."""
        return {
            Cause.NONE: 200,
            Cause.CONTEXT_LENGTH: 400,
            Cause.GATEWAY_QUEUE_FULL: 429,
            Cause.GATEWAY_QUEUE_TIMEOUT: 503,
            Cause.ENGINE_QUEUE_FULL: 503,
            Cause.UNREACHABLE: 503,
            Cause.FALLBACK_ERROR: 500,
        }.get(self, 0)

    @property
    def retry_class(self) -> str | None:
        """The key of ``clients.retry.on`` that covers this cause; None for what is never retried."""
        if self in (Cause.NONE, Cause.CONTEXT_LENGTH, Cause.TIMEOUT_REQUEST, Cause.FALLBACK_ERROR):
            return None
        if self.startswith("cut_"):
            return "cut"
        return "timeout" if self.startswith("timeout") else str(self.status)
