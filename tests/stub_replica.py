"""A replica that answers after a time given by a function, and what else a chain of client and gateway needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from simulator.attempts import Attempt, AttemptListener, attempt_id_of
from simulator.clients.client import Client
from simulator.clock import Clock
from simulator.draws import Draws
from simulator.engines.protocol import ContentSegments, EngineRequest, Finish
from simulator.gateway.gateway import Gateway
from simulator.gateway.policies import routing_policy
from simulator.outcomes import Cause
from simulator.records.columns import ATTEMPTS, REQUESTS
from simulator.scenario.clients import Clients
from simulator.scenario.gateway import Gateway as GatewaySection
from simulator.scenario.slo import Slo
from simulator.units import to_ps
from simulator.workload.request import RequestSpec


def Spec(
    request_id: int,
    arrival_ps: int,
    prompt_tokens: int = 100,
    output_tokens: int = 10,
    max_tokens: int | None = 10,
    segments: ContentSegments = (),
    priority: int = 0,
    session_id: int = 0,
    turn: int = 0,
    workload: int = 0,
) -> RequestSpec:
    return RequestSpec(
        request_id,
        workload,
        arrival_ps,
        prompt_tokens,
        output_tokens,
        max_tokens,
        segments,
        priority,
        session_id,
        turn,
    )


class Source:
    def __init__(
        self,
        specs: Iterable[RequestSpec],
        after: Callable[[RequestSpec, int, bool], RequestSpec | None] | None = None,
    ) -> None:
        self._specs = specs
        self._after = after
        self.ended: list[tuple[int, int, bool]] = []

    def arrivals(self) -> Iterator[RequestSpec]:
        return iter(self._specs)

    def may_follow(self, workload: int) -> bool:
        return self._after is not None

    def after(self, spec: RequestSpec, end_ps: int, succeeded: bool) -> RequestSpec | None:
        self.ended.append((spec.request_id, end_ps, succeeded))
        return None if self._after is None else self._after(spec, end_ps, succeeded)


def nothing_follows(spec: RequestSpec, end_ps: int, succeeded: bool) -> RequestSpec | None:
    """For a `Source` that wants to hear of every end."""
    return None


class Rows:
    """A sink that keeps rows as dictionaries by column name."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.attempts: list[dict[str, Any]] = []

    def request(self, row: tuple[Any, ...]) -> None:
        self.requests.append(dict(zip(REQUESTS.names, row, strict=True)))

    def attempt(self, row: tuple[Any, ...]) -> None:
        self.attempts.append(dict(zip(ATTEMPTS.names, row, strict=True)))

    def timeline(self, row: tuple[Any, ...]) -> None:
        raise NotImplementedError

    def event(self, *_: Any) -> None:
        raise NotImplementedError

    def request_of(self, request_id: int) -> dict[str, Any]:
        (row,) = [row for row in self.requests if row["request_id"] == request_id]
        return row


class StubReplica:
    """Takes any number of attempts; each gets its first token and its end after times that a function gives.

    Args:
        times_s: attempt -> (seconds to first token, seconds to the end, cause of failure or NONE).
        out_s: seconds between an event and the client's end of the wire seeing it, as a front end takes.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        listener: AttemptListener,
        times_s: Callable[[Attempt], tuple[float, float, Cause]],
        out_s: float = 0.0,
    ) -> None:
        self.name = name
        self.clock = clock
        self.listener = listener
        self.times_s = times_s
        self.out_ps = to_ps(out_s)
        self.held: dict[int, Attempt] = {}
        self.wire: dict[int, Attempt] = {}
        self.received: list[tuple[int, int]] = []  # (time, attempt id)
        self.aborted: list[int] = []

    def submit(self, attempt: Attempt, wire_ps: int = 0) -> None:
        attempt.pod = self.name
        if not wire_ps:
            self._arrive(attempt)
            return
        self.wire[attempt.attempt_id] = attempt
        self.clock.call_at(
            self.clock.now + wire_ps, lambda _: self._arrive(self.wire.pop(attempt.attempt_id, None))
        )

    def _arrive(self, attempt: Attempt | None) -> None:
        if attempt is None:
            return
        now = self.clock.now
        self.received.append((now, attempt.attempt_id))
        first_s, end_s, cause = self.times_s(attempt)
        if end_s == 0.0 and cause is not Cause.NONE:
            self.listener.failed(attempt, now + self.out_ps, cause, 0)
            return
        attempt.engine_ps = attempt.scheduled_ps = now
        self.held[attempt.attempt_id] = attempt
        if first_s < end_s:
            self.clock.call_at(now + to_ps(first_s), lambda _: self._first(attempt))
        self.clock.call_at(now + to_ps(end_s), lambda _: self._end(attempt, cause))

    def abort(self, attempt: Attempt) -> int:
        if self.wire.pop(attempt.attempt_id, None) is not None or (
            self.held.pop(attempt.attempt_id, None) is None
        ):
            return 0
        self.aborted.append(attempt.attempt_id)
        return 7

    def kill(self, cause: Cause) -> None:
        held, self.held = list(self.held.values()), {}
        for attempt in held:
            self.listener.failed(attempt, self.clock.now + self.out_ps, cause, 3)

    def _first(self, attempt: Attempt) -> None:
        if attempt.attempt_id in self.held:
            attempt.first_token_ps = self.clock.now + self.out_ps
            self.listener.first_token(attempt, attempt.first_token_ps)

    def _end(self, attempt: Attempt, cause: Cause) -> None:
        if self.held.pop(attempt.attempt_id, None) is None:
            return
        now = self.clock.now
        seen_ps = now + self.out_ps
        if cause is not Cause.NONE:
            self.listener.failed(attempt, seen_ps, cause, 3)
            return
        if attempt.first_token_ps is None:
            attempt.first_token_ps = seen_ps
            self.listener.first_token(attempt, seen_ps)
        request = attempt.engine_request
        tokens = min(request.output_tokens, request.max_tokens)
        scheduled_ps = attempt.scheduled_ps
        assert scheduled_ps is not None
        finish = Finish("stop", tokens, scheduled_ps, attempt.first_token_ps, 0, 0, 0)
        self.listener.finished(attempt, seen_ps, finish)


class Chain:
    """Clients, gateway and stub replicas on one clock."""

    def __init__(
        self,
        source: Source,
        *,
        clients: dict[str, Any] | None = None,
        gateway: dict[str, Any] | None = None,
        slo: dict[str, Any] | None = None,
        seed: int = 1,
    ) -> None:
        self.clock = Clock()
        self.source = source
        draws = Draws(seed)
        section = GatewaySection.model_validate({"latency": 0, **(gateway or {})})
        policy = routing_policy(section, draws, lambda metric, pod: None)
        self.gateway = Gateway(self.clock, section, policy)
        self.rows = Rows()
        self.client = Client(
            self.clock,
            Clients.model_validate(clients or {}),
            self.gateway,
            draws,
            self.rows,
            ["chat", "batch"],
            [Slo.model_validate(slo or {}), Slo(e2e=0.5)],
            source,
            4096,
        )
        self.gateway.connect(self.client)

    def replica(
        self,
        name: str = "pod-0",
        times_s: Callable[[Attempt], tuple[float, float, Cause]] = lambda _: (1.0, 2.0, Cause.NONE),
        out_s: float = 0.0,
    ) -> StubReplica:
        replica = StubReplica(self.clock, name, self.gateway, times_s, out_s)
        self.gateway.add_endpoint(replica)
        return replica

    def run(self, until_s: float | None = None) -> Rows:
        self.client.start()
        self.clock.run(until=None if until_s is None else to_ps(until_s))
        self.client.finish()
        return self.rows


def specs_at(*arrivals_s: float) -> list[RequestSpec]:
    return [Spec(i, to_ps(t)) for i, t in enumerate(arrivals_s)]


def an_attempt(
    request_id: int = 0,
    number: int = 0,
    prompt_tokens: int = 256,
    segments: ContentSegments = (),
) -> Attempt:
    attempt_id = attempt_id_of(request_id, number)
    return Attempt(
        attempt_id, number, EngineRequest(attempt_id, prompt_tokens, 10, 10, segments=segments), 0, None
    )


def ids(attempts: Sequence[tuple[int, int]]) -> list[int]:
    return [attempt_id for _, attempt_id in attempts]
