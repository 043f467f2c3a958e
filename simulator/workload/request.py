"""What a workload hands to the clients: one logical request, before any attempt is made."""

from __future__ import annotations

from typing import Final, NamedTuple

from simulator.engines.protocol import ContentSegments

IDS_PER_WORKLOAD: Final = 10**12
"""Request and session ids are workload index × this + index within the workload."""

SYSTEM_PROMPT: Final = 0
CONVERSATION: Final = 1
TRACE_BLOCK: Final = 2


class RequestSpec(NamedTuple):
    """One logical request.

    Attributes:
        request_id: unique in the run: workload × 10¹² + index within the workload. The index is a function of
            the workload alone: position in the entry's own arrival order for requests without sessions;
            turns counted over the sessions in order of their starts; user + users × ordinal in a closed
            loop; row × copies + copy for a trace.
        workload: index of the scenario's entry.
        arrival_ps: when the client sends it first.
        prompt_tokens: length of the prompt, at least 1.
        output_tokens: where the model would stop by itself, at least 1.
        max_tokens: the client's cap, or None if it sends none (vLLM then takes what the context leaves).
        segments: shared content of prompt and answer (`simulator.engines.protocol`).
        priority: smaller is more urgent.
        session_id: shared by the turns of a conversation; a request without sessions is its own.
        turn: 0 for the first turn.
    """

    request_id: int
    workload: int
    arrival_ps: int
    prompt_tokens: int
    output_tokens: int
    max_tokens: int | None
    segments: ContentSegments
    priority: int
    session_id: int
    turn: int


def content_id(workload: int, kind: int, number: int) -> int:
    """Id of a piece of content, unique in the run for workloads below 1024; ``kind`` is a constant above."""
    return number << 12 | workload << 2 | kind
