"""A replica: one engine hosted on the SimPy clock.

The engine is a state machine that says when it must be advanced next; the replica keeps one wake-up armed for
that instant. Wake-ups run after every ordinary event of the same instant (a lower SimPy priority), so that a
schedule at time t sees all arrivals at t, whatever the order in which they were put on the event list.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from simulator.attempts import Attempt, AttemptListener
from simulator.clock import LAST, Clock
from simulator.engines.protocol import Delivery, DeliveryKind, Engine, EngineSnapshot, StepTime
from simulator.outcomes import Cause
from simulator.step_time.slowed import SlowedStepTime

_REFUSALS: Final = {
    "queue_full": Cause.ENGINE_QUEUE_FULL,
    "context_length": Cause.CONTEXT_LENGTH,
}

_SCHEDULED: Final = DeliveryKind.SCHEDULED
_FIRST_TOKEN: Final = DeliveryKind.FIRST_TOKEN
_FINISHED: Final = DeliveryKind.FINISHED


class Replica:
    """Hosts an engine and relays between it and the gateway.

    Attributes:
        alive: whether the process still exists.
        stopped_ps: when it ended, or None.
        listening: whether its server answers yet.
        death: what ended, or ends, its process.

    Args:
        env: the run's environment; its clock.
        name: pod name.
        engine: the engine.
        listener: hears of every attempt, with the instant at which the client sees it.
        frontend_in_ps: HTTP and the like, before the engine's queue.
        frontend_in_ps_per_token: tokenisation, per prompt token.
        frontend_out_ps: detokenisation and HTTP, after a step.
        on_preemption: called with (pod name, attempt) when the engine preempts a request.
        step_time: the engine's at full speed; without it the replica cannot be slowed down.
    """

    def __init__(
        self,
        env: Clock,
        name: str,
        engine: Engine,
        listener: AttemptListener,
        *,
        frontend_in_ps: int = 0,
        frontend_in_ps_per_token: int = 0,
        frontend_out_ps: int = 0,
        on_preemption: Callable[[str, Attempt], None] | None = None,
        step_time: StepTime | None = None,
    ) -> None:
        self.env = env
        self.name = name
        self.engine = engine
        self.alive = True
        self.stopped_ps: int | None = None
        self.listening = True
        self._connect_timeout_ps: int | None = None  # while the gateway cannot reach it
        self._draining = False
        self.death: Cause = Cause.CUT_FAILURE
        self._listener = listener
        self._in_ps = frontend_in_ps
        self._in_ps_per_token = frontend_in_ps_per_token
        self._out_ps = frontend_out_ps
        self._on_preemption = on_preemption
        self._step_time = step_time
        self._attempts: dict[int, Attempt] = {}
        self._entering: dict[int, Attempt] = {}  # in the front end, not yet in the engine
        self._due_ps: int | None = None  # when the engine must be advanced next
        self._wake_ups_ps: list[int] = []  # those on the event list, latest first
        self._on_empty: Callable[[], None] | None = None

    @property
    def in_flight(self) -> int:
        """Attempts that this replica has and that have not ended."""
        return len(self._attempts) + len(self._entering)

    # --- from the gateway -------------------------------------------------------------------------------

    def submit(self, attempt: Attempt, wire_ps: int = 0) -> None:
        """Take an attempt; it reaches the engine's queue after the wire's and the front end's time.

        Without a process that listens the connection is refused, for the reason that ended the process; one that
        ends meanwhile breaks what is on its way.
        """
        attempt.pod = self.name
        if self._connect_timeout_ps is not None:
            self._listener.failed(attempt, self.env.now + self._connect_timeout_ps, Cause.UNREACHABLE, 0)
            return
        if not self.alive or not self.listening:
            self._listener.failed(attempt, self.env.now + wire_ps + self._out_ps, self.death, 0)
            return
        delay_ps = wire_ps + self._in_ps + self._in_ps_per_token * attempt.engine_request.prompt_tokens
        if delay_ps:
            self._entering[attempt.attempt_id] = attempt
            self.env.call_at(self.env.now + delay_ps, self._enter, attempt)
        else:
            self._to_engine(attempt)

    def abort(self, attempt: Attempt) -> int:
        """Drop an attempt whose client has gone."""
        if self._entering.pop(attempt.attempt_id, None) is not None:
            self._check_empty()
            return 0
        if self._attempts.pop(attempt.attempt_id, None) is None:
            return 0  # finished in the engine, its last token still on the way to the client
        now = self.env.now
        generated = self.engine.abort(attempt.attempt_id, now)
        self._arm()
        self._check_empty()
        return generated

    # --- from the cluster -------------------------------------------------------------------------------

    def kill(self, cause: Cause) -> int:
        """The process dies: every stream breaks now. Returns how many did."""
        if not self.alive:
            return 0
        self.alive = False
        self.death = cause
        self.stopped_ps = self.env.now
        return self._cut(cause)

    def isolate(self, cause: Cause, connect_timeout_ps: int | None) -> int:
        """The network between gateway and pod breaks: streams do now, connections time out from now on.

        The process lives, and its kubelet finds it healthy. Returns how many streams broke. With None for the timeout
        the network is whole again.
        """
        self._connect_timeout_ps = connect_timeout_ps
        return 0 if connect_timeout_ps is None or not self.alive else self._cut(cause)

    def set_slowdown(self, factor: Fraction) -> None:
        """Steps take so many times as long as they should, from the next one on."""
        if self.alive and self._step_time is not None:
            slowed = self._step_time if factor == 1 else SlowedStepTime(self._step_time, factor)
            self.engine.retime(slowed, self.env.now)
            self._arm()

    def _cut(self, cause: Cause) -> int:
        """Break every stream and drop its request."""
        now = self.env.now
        cut = list(self._attempts.values()) + list(self._entering.values())
        entering = set(self._entering)
        self._attempts.clear()
        self._entering.clear()
        for attempt in cut:
            generated = 0
            if attempt.attempt_id not in entering:
                generated = self.engine.abort(attempt.attempt_id, now)
            self._listener.failed(attempt, now + self._out_ps, cause, generated)
        if self.alive and cut:
            self._arm()
        self._check_empty()
        return len(cut)

    def drain(self) -> None:
        """VLLM from SIGTERM on: requests in the engine go on, what reaches it from now on is refused.

        The API server still listens; the engine core answers with an abort (v0.32, v1/engine/core.py,
        ``_reject_add_in_shutdown``), so that the client sees its stream end at once.
        """
        self._draining = True

    def when_empty(self, callback: Callable[[], None]) -> None:
        """Call once as soon as nothing is in flight (at once if that is now)."""
        self._on_empty = callback
        self._check_empty()

    def peek(self) -> EngineSnapshot:
        """The engine's state now, or when the process ended: a step that it cut off kept the GPU no longer."""
        return self.engine.peek(self.env.now if self.stopped_ps is None else self.stopped_ps)

    # --- the engine's clock -----------------------------------------------------------------------------

    def _enter(self, attempt: Attempt) -> None:
        if self._entering.pop(attempt.attempt_id, None) is not None:
            self._to_engine(attempt)

    def _to_engine(self, attempt: Attempt) -> None:
        now = self.env.now
        if self._draining:
            self._listener.failed(attempt, now + self._out_ps, Cause.CUT_TERMINATION, 0)
            self._check_empty()
            return
        refusal = self.engine.submit(attempt.engine_request, now)
        if refusal is not None:
            self._listener.failed(attempt, now + self._out_ps, _REFUSALS[refusal], 0)
            self._check_empty()
            return
        attempt.engine_ps = now
        self._attempts[attempt.attempt_id] = attempt
        self._arm()

    def _arm(self) -> None:
        """See to it that a wake-up comes no later than the engine needs one.

        A wake-up cannot be taken off the event list. One that has become too early stays in place of the later one
        that is due, and looks again.
        """
        due = self._due_ps = self.engine.next_time()
        wake_ups = self._wake_ups_ps
        if due is not None and (not wake_ups or due < wake_ups[-1]):
            wake_ups.append(due)
            self.env.call_at(due, self._wake, None, LAST)

    def _wake(self, _: None) -> None:
        now = self._wake_ups_ps.pop()
        if now == self._due_ps:
            self.catch_up()
        elif self.alive:
            self._arm()

    def catch_up(self) -> None:
        """Let the engine do all that happens up to now, also what it could still put off."""
        if not self.alive:
            return
        deliveries = self.engine.advance(self.env.now)
        if deliveries:
            self._relay(deliveries)
        self._arm()

    def _relay(self, deliveries: list[Delivery]) -> None:
        out_ps, attempts, listener = self._out_ps, self._attempts, self._listener
        for delivery in deliveries:
            kind, time_ps = delivery.kind, delivery.time_ps
            if kind is _FINISHED:
                # None: aborted at this very instant by a listener; so below.
                attempt = attempts.pop(delivery.request_id, None)
                if attempt is not None:
                    finish = delivery.detail
                    assert finish is not None
                    listener.finished(attempt, time_ps + out_ps, finish)
                continue
            attempt = attempts.get(delivery.request_id)
            if attempt is None:
                continue
            if kind is _FIRST_TOKEN:
                attempt.first_token_ps = time_ps + out_ps
                listener.first_token(attempt, time_ps + out_ps)
            elif kind is _SCHEDULED:
                if attempt.scheduled_ps is None:
                    attempt.scheduled_ps = time_ps
            else:
                attempt.preemptions += 1
                if self._on_preemption is not None:
                    self._on_preemption(self.name, attempt)
        if self._on_empty is not None:
            self._check_empty()

    def _check_empty(self) -> None:
        if self._on_empty is not None and not self._attempts and not self._entering:
            callback, self._on_empty = self._on_empty, None
            callback()
