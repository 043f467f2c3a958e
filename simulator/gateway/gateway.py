"""The gateway on the clock: endpoints, a bounded queue, the wire.

It stands at the clients' end of the wire: it decides when the client sends, a request reaches its replica one
latency later, and it sees the end of a request when the client does. Its counts are exact for what it has sent and
seen end, as a real proxy's are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from simulator.attempts import Attempt, AttemptListener, ReplicaPort
from simulator.clock import Clock
from simulator.engines.protocol import Finish
from simulator.gateway.endpoint import Endpoint
from simulator.gateway.routing import RoutingPolicy
from simulator.outcomes import Cause
from simulator.scenario.gateway import Gateway as GatewaySection
from simulator.units import to_ps

_QUEUED: Final = object()


class Gateway:
    """Routes attempts to replicas, holds them while none can take them, and tells the clients what came of them.

    Args:
        clock: the run's clock.
        section: the scenario's gateway.
        policy: the routing policy.
    """

    def __init__(self, clock: Clock, section: GatewaySection, policy: RoutingPolicy) -> None:
        self._clock = clock
        self._policy = policy
        self._latency_ps = to_ps(section.latency)
        self._max_outstanding = section.max_outstanding_per_replica
        self._max_queue = section.max_queue
        self._queue_timeout_ps = to_ps(section.queue_timeout)
        self._listener: AttemptListener
        self._endpoints: dict[str, Endpoint] = {}  # ready, or gone with attempts still in flight
        self._ready: list[Endpoint] = []
        self._added = 0
        self._queue: OrderedDict[int, tuple[int, Attempt]] = OrderedDict()  # id -> (deadline, attempt)
        self._releases: list[tuple[int, int, Endpoint]] = []  # heap: ends that the gateway has yet to see
        self._released = 0
        self._release_armed_ps: int | None = None
        self._timeout_armed = False
        self._draining = False

    def connect(self, listener: AttemptListener) -> None:
        """Tell this listener what comes of the attempts; to be called before the first one is submitted."""
        self._listener = listener

    # --- gauges -----------------------------------------------------------------------------------------

    @property
    def queue_length(self) -> int:
        """Attempts held because no replica can take them."""
        return len(self._queue)

    def ready_endpoints(self) -> list[Endpoint]:
        """Endpoints that new requests may go to."""
        return list(self._ready)

    def outstanding(self) -> dict[str, int]:
        """Attempts in flight by pod name, as the gateway counts them; pods that are gone while they have any."""
        counts = {name: endpoint.outstanding for name, endpoint in self._endpoints.items()}
        now = self._clock.now
        for seen_ps, _, endpoint in self._releases:
            counts[endpoint.name] -= (
                seen_ps <= now
            )  # a look must not settle: it would change who is served first
        return counts

    # --- from the cluster -------------------------------------------------------------------------------

    def add_endpoint(self, replica: ReplicaPort) -> None:
        """A replica can be sent requests from now on; one that is known already keeps its count."""
        endpoint = self._endpoints.get(replica.name)
        if endpoint is not None and endpoint.ready:
            return
        if endpoint is None:
            endpoint = self._endpoints[replica.name] = Endpoint(replica.name, self._added, replica)
        endpoint.replica = replica
        endpoint.order = self._added
        self._added += 1
        endpoint.ready = True
        self._ready.append(endpoint)
        self._policy.add(endpoint)
        self._settle()
        self._drain()

    def remove_endpoint(self, replica: ReplicaPort) -> None:
        """No new requests to this replica; those in flight go on. Unknown replicas are ignored."""
        endpoint = self._endpoints.get(replica.name)
        if endpoint is None or not endpoint.ready:
            return
        endpoint.ready = False
        self._ready.remove(endpoint)
        self._policy.remove(endpoint)
        if not endpoint.outstanding:
            del self._endpoints[endpoint.name]

    # --- from the clients -------------------------------------------------------------------------------

    def submit(self, attempt: Attempt) -> None:
        """Send an attempt now, queue it, or refuse it."""
        now = self._clock.now
        if self._releases and self._releases[0][0] <= now:
            self._settle()
        if not self._queue:
            candidates = self._candidates()
            if candidates:
                self._send(attempt, candidates)
                return
        if len(self._queue) >= self._max_queue:
            self._listener.failed(attempt, now + self._latency_ps, Cause.GATEWAY_QUEUE_FULL, 0)
            return
        attempt.state = _QUEUED
        self._queue[attempt.attempt_id] = (now + self._queue_timeout_ps, attempt)
        if not self._timeout_armed:
            self._arm_timeout()
        self._arm_release()

    def cancel(self, attempt: Attempt) -> int:
        """The client gives up; returns the tokens generated so far. Nothing more is told of the attempt."""
        place, attempt.state = attempt.state, None
        if place is _QUEUED:
            del self._queue[attempt.attempt_id]
            return 0
        if place is None:
            return 0  # ended
        if isinstance(place, int):  # ended; the news is on the way, or a connection has yet to time out
            self._forget_release(place)
            return 0
        assert isinstance(place, Endpoint)
        generated = place.replica.abort(attempt)
        self._release(place)
        self._drain()
        return generated

    # --- from the replicas ------------------------------------------------------------------------------

    def first_token(self, attempt: Attempt, seen_ps: int) -> None:
        """Relay, one wire later."""
        seen_ps += self._latency_ps
        attempt.first_token_ps = seen_ps
        self._listener.first_token(attempt, seen_ps)

    def finished(self, attempt: Attempt, seen_ps: int, finish: Finish) -> None:
        """Relay, one wire later."""
        seen_ps += self._latency_ps
        self._end(attempt, seen_ps)
        self._listener.finished(attempt, seen_ps, finish)

    def failed(self, attempt: Attempt, seen_ps: int, cause: Cause, output_tokens: int) -> None:
        """Relay, one wire later."""
        seen_ps += self._latency_ps
        self._end(attempt, seen_ps)
        self._listener.failed(attempt, seen_ps, cause, output_tokens)

    # --- sending ----------------------------------------------------------------------------------------

    def _candidates(self) -> list[Endpoint]:
        limit = self._max_outstanding
        if limit is None:
            return self._ready
        return [endpoint for endpoint in self._ready if endpoint.outstanding < limit]

    def _send(self, attempt: Attempt, candidates: Sequence[Endpoint]) -> None:
        endpoint = self._policy.choose(candidates, attempt)
        endpoint.outstanding += 1
        attempt.state = endpoint
        attempt.pod = endpoint.name
        endpoint.replica.submit(attempt, self._latency_ps)

    def _drain(self) -> None:
        if self._draining:
            return  # a replica refused at once and freed its slot: the loop below us goes on
        self._draining = True
        while self._queue and (candidates := self._candidates()):
            _, (_, attempt) = self._queue.popitem(last=False)
            self._send(attempt, candidates)
        self._draining = False

    # --- ends -------------------------------------------------------------------------------------------

    def _end(self, attempt: Attempt, seen_ps: int) -> None:
        endpoint, attempt.state = attempt.state, None
        assert isinstance(endpoint, Endpoint)
        if seen_ps <= self._clock.now:
            self._release(endpoint)
            self._drain()
            return
        self._released += 1
        attempt.state = self._released
        heappush(self._releases, (seen_ps, self._released, endpoint))
        if self._queue:
            self._arm_release()

    def _release(self, endpoint: Endpoint) -> None:
        endpoint.outstanding -= 1
        if not endpoint.ready and not endpoint.outstanding:
            del self._endpoints[endpoint.name]

    def _forget_release(self, number: int) -> None:
        """Nobody waits for the end of that number any more: it counts as seen."""
        releases = self._releases
        for index, (_, other, endpoint) in enumerate(releases):
            if other == number:
                releases[index] = releases[-1]
                releases.pop()
                heapify(releases)
                self._release(endpoint)
                self._drain()
                return

    def _settle(self) -> None:
        """Count the ends that the gateway has seen by now."""
        releases = self._releases
        now = self._clock.now
        while releases and releases[0][0] <= now:
            self._release(heappop(releases)[2])
            if self._queue:
                self._drain()

    def _arm_release(self) -> None:
        """While something is queued, the next end must be acted on when it is seen; else it can wait."""
        if not self._queue or not self._releases:
            return
        due = self._releases[0][0]
        if self._release_armed_ps is None or due < self._release_armed_ps:
            self._release_armed_ps = due
            self._clock.call_at(due, self._wake)

    def _wake(self, _: object) -> None:
        if self._clock.now != self._release_armed_ps:
            return  # an earlier wake-up replaced this one
        self._release_armed_ps = None
        self._settle()
        self._arm_release()

    # --- the queue's timer ------------------------------------------------------------------------------

    def _arm_timeout(self) -> None:
        """One timer, for the head: equal timeouts make the queue sorted by deadline."""
        self._timeout_armed = bool(self._queue)
        if self._queue:
            deadline_ps, _ = next(iter(self._queue.values()))
            self._clock.call_at(deadline_ps, self._expire)

    def _expire(self, _: object) -> None:
        self._settle()
        now = self._clock.now
        while self._queue:
            attempt_id, (deadline_ps, attempt) = next(iter(self._queue.items()))
            if deadline_ps > now:
                break
            del self._queue[attempt_id]
            attempt.state = None
            self._listener.failed(attempt, now + self._latency_ps, Cause.GATEWAY_QUEUE_TIMEOUT, 0)
        self._arm_timeout()
