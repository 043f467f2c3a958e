"""One try of a request, and the two ends it passes between: the gateway above, a replica below.

    client ── submit/cancel ──► gateway ── submit/abort ──► replica
    client ◄── AttemptListener ── gateway ◄── AttemptListener ── replica

Calls downwards happen at the instant they mean. News upwards carry the instant at which the *client* learns
of them (``seen_ps``, front-end and wire included), which may lie after the clock: nothing may act on a piece
of news before its ``seen_ps``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from simulator.engines.protocol import EngineRequest, Finish
    from simulator.outcomes import Cause

ATTEMPTS_PER_REQUEST: Final = 32
"""Room for attempt numbers in an attempt's id."""


def attempt_id_of(request_id: int, number: int) -> int:
    """The id of a request's n-th attempt; it does not depend on what else happened in the run.

    An id that counted attempts as they are sent would shift with every retry elsewhere, and with it every draw
    addressed by it.
    """
    return request_id * ATTEMPTS_PER_REQUEST + number


def request_id_of(attempt_id: int) -> int:
    """The logical request that an attempt belongs to."""
    return attempt_id // ATTEMPTS_PER_REQUEST


class Attempt:
    """One try of a logical request.

    Attributes:
        attempt_id: unique in the run (`attempt_id_of`); also the engine's request id.
        number: 0 for the first try of its request.
        engine_request: what the engine gets.
        sent_ps: when the client sent it.
        pod: name of the replica that got it, or None.
        engine_ps: when it entered the engine's queue, or None.
        scheduled_ps: first scheduled by the engine, or None.
        first_token_ps: first token at the client, or None.
        preemptions: times preempted so far.
    """

    __slots__ = (
        "attempt_id",
        "engine_ps",
        "engine_request",
        "first_token_ps",
        "number",
        "owner",
        "pod",
        "preemptions",
        "scheduled_ps",
        "sent_ps",
        "state",
    )

    def __init__(
        self, attempt_id: int, number: int, engine_request: EngineRequest, sent_ps: int, owner: Any
    ) -> None:
        self.attempt_id = attempt_id
        self.number = number
        self.engine_request = engine_request
        self.sent_ps = sent_ps
        self.owner: Any = owner  # the client's record of the logical request
        self.state: object | None = None  # the gateway's place for it: queue, endpoint, or an unseen end
        self.pod: str | None = None
        self.engine_ps: int | None = None
        self.scheduled_ps: int | None = None
        self.first_token_ps: int | None = None
        self.preemptions = 0


class AttemptListener(Protocol):
    """Hears how an attempt fares. Exactly one of ``finished`` and ``failed`` comes, unless it was cancelled."""

    def first_token(self, attempt: Attempt, seen_ps: int) -> None:
        """The first token; ``attempt.first_token_ps`` is set."""

    def finished(self, attempt: Attempt, seen_ps: int, finish: Finish) -> None:
        """The last token."""

    def failed(self, attempt: Attempt, seen_ps: int, cause: Cause, output_tokens: int) -> None:
        """Refused or cut; ``output_tokens`` were generated and are lost."""


class ReplicaPort(Protocol):
    """A replica as the gateway sees it."""

    name: str

    def submit(self, attempt: Attempt, wire_ps: int = 0) -> None:
        """Send an attempt now; it gets there after ``wire_ps``. What comes of it is told to the listener."""

    def abort(self, attempt: Attempt) -> int:
        """The client has gone; returns the tokens generated so far. Nothing more is told of the attempt."""


class GatewayPort(Protocol):
    """The gateway as clients and the cluster see it."""

    def submit(self, attempt: Attempt) -> None:
        """Send an attempt now. What comes of it is told to the client."""

    def cancel(self, attempt: Attempt) -> int:
        """The client gives up; returns the tokens generated so far. Nothing more is told of the attempt."""

    def add_endpoint(self, replica: ReplicaPort) -> None:
        """A replica can be sent requests from now on."""

    def remove_endpoint(self, replica: ReplicaPort) -> None:
        """No new requests to this replica; those in flight go on. Unknown replicas are ignored."""
