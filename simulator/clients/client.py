"""All clients of a run: they send requests, wait, lose patience, try again, or go elsewhere.

News of an attempt comes with the instant at which the client learns it (``seen_ps``). It is kept until then, so a
deadline that falls before that instant wins, and whoever looks at the counters sees what clients know now.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence
from functools import partial
from operator import itemgetter

from simulator.attempts import Attempt, GatewayPort, attempt_id_of
from simulator.billing import ApiBill
from simulator.clients.arrivals import Arrivals
from simulator.clients.counters import ClientCounters, IntervalStats
from simulator.clients.fallback import FallbackApi
from simulator.clients.ledger import Ledger
from simulator.clients.request import LiveRequest, is_current, request_of
from simulator.clients.retry import Retries
from simulator.clients.source import RequestSource
from simulator.clients.timeouts import Timeouts
from simulator.clock import Clock
from simulator.draws import Draws
from simulator.engines.protocol import EngineRequest, Finish
from simulator.outcomes import Cause
from simulator.records.sink import RecordSink
from simulator.scenario.clients import Clients as ClientsSection
from simulator.scenario.slo import Slo
from simulator.units import to_ps
from simulator.workload.request import RequestSpec

_News = tuple[int, Attempt, "Finish | Cause | None", int]
"""(seen_ps, attempt, its end or None for the first token, tokens generated)"""

_seen = itemgetter(0)


class Client:
    """Sends every request of a workload to the gateway and records what becomes of it.

    Args:
        clock: the run's clock.
        section: the scenario's clients.
        gateway: where attempts go; it must be connected to this client.
        draws: the run's draws.
        sink: takes the rows of requests and attempts, in the order in which they end.
        workloads: names of the workloads, by index.
        slos: what counts as good, by workload.
        source: where requests come from.
        max_model_len: the engine's limit; a request without ``max_tokens`` may use what the prompt leaves of it.
    """

    def __init__(
        self,
        clock: Clock,
        section: ClientsSection,
        gateway: GatewayPort,
        draws: Draws,
        sink: RecordSink,
        workloads: Sequence[str],
        slos: Sequence[Slo],
        source: RequestSource,
        max_model_len: int,
    ) -> None:
        self._clock = clock
        self._gateway = gateway
        self._ledger = Ledger(sink, workloads, slos)
        self._max_model_len = max_model_len
        self._source = source
        self._may_follow = [source.may_follow(index) for index in range(len(workloads))]
        self._arrivals = Arrivals(clock, source.arrivals, self._begin)
        self._retries = Retries(section.retry, draws)
        self._fallback = None if section.fallback is None else FallbackApi(section.fallback, draws)
        self._live: dict[int, LiveRequest] = {}
        self._news: deque[_News] = deque()
        self._request_timeouts = (
            None
            if section.timeout is None
            else Timeouts[LiveRequest](clock, to_ps(section.timeout), lambda r: r.over, self._request_expired)
        )
        self._attempt_timeouts = (
            None
            if section.attempt_timeout is None
            else Timeouts[Attempt](
                clock,
                to_ps(section.attempt_timeout),
                lambda attempt: not is_current(attempt),
                lambda attempt: self._attempt_expired(attempt, Cause.TIMEOUT_ATTEMPT),
            )
        )
        self._ttft_timeouts = (
            None
            if section.ttft_timeout is None
            else Timeouts[Attempt](
                clock,
                to_ps(section.ttft_timeout),
                self._got_first_token,
                lambda attempt: self._attempt_expired(attempt, Cause.TIMEOUT_TTFT),
            )
        )

    # --- the run ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with the source's first arrival."""
        self._arrivals.start()

    def finish(self) -> None:
        """The run ends now: whatever has not ended is recorded as in flight."""
        self._settle(self._clock.now)
        for request in self._live.values():
            first_ps = None
            if request.attempt is not None:
                self._forget_future(request.attempt)
                first_ps = request.attempt.first_token_ps
            elif request.fallback_ps is not None:
                first_ps = self._leave_fallback(request)
            self._ledger.in_flight(request, first_ps)
            request.over = True
        self._live.clear()

    def drain_interval(self) -> IntervalStats:
        """What clients saw since the last call, up to but not including this instant."""
        # Ends before now have been acted on; looking must not act on those of this instant before their turn.
        self._settle(self._clock.now - 1)
        return self._ledger.close_interval()

    @property
    def totals(self) -> ClientCounters:
        """Counts of the run so far."""
        return self._ledger.totals()

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and, up to but not including this instant, not ended."""
        self._settle(self._clock.now - 1)
        return len(self._live)

    @property
    def idle(self) -> bool:
        """Nothing is in flight and nothing more will arrive."""
        self._settle(self._clock.now - 1)
        return not self._live and self._arrivals.exhausted

    @property
    def fallback_bill(self) -> ApiBill:
        """What the fallback API has charged so far."""
        return ApiBill() if self._fallback is None else self._fallback.bill

    # --- sending ----------------------------------------------------------------------------------------

    def _begin(self, spec: RequestSpec) -> None:
        self._settle(self._clock.now)
        request = LiveRequest(spec)
        self._live[request.request_id] = request
        self._ledger.interval.arrivals += 1
        self._retries.first_attempt()
        if self._request_timeouts is not None:
            self._request_timeouts.add(request)
        self._send(request)

    def _send(self, request: LiveRequest) -> None:
        # Taken apart at once: named attributes of a tuple are slow where this is compiled.
        request_id, workload, _, prompt_tokens, output_tokens, max_tokens, segments, priority, _, _ = (
            request.spec
        )
        number = request.attempts
        request.attempts = number + 1
        self._ledger.interval.attempts += 1
        attempt_id = attempt_id_of(request_id, number)
        engine_request = EngineRequest(
            attempt_id,
            prompt_tokens,
            output_tokens,
            self._cap(max_tokens, prompt_tokens),
            priority,
            workload,
            segments,
        )
        attempt = Attempt(attempt_id, number, engine_request, self._clock.now, request)
        request.attempt = attempt
        if self._attempt_timeouts is not None:
            self._attempt_timeouts.add(attempt)
        if self._ttft_timeouts is not None:
            self._ttft_timeouts.add(attempt)
        self._gateway.submit(attempt)

    def _cap(self, max_tokens: int | None, prompt_tokens: int) -> int:
        if max_tokens is not None:
            return max_tokens
        # vLLM's default; at least 1, so that a prompt which fills the context gets its 400.
        return max(1, self._max_model_len - prompt_tokens)

    # --- news -------------------------------------------------------------------------------------------

    def first_token(self, attempt: Attempt, seen_ps: int) -> None:
        """The first token will be here at ``seen_ps``."""
        self._hear((seen_ps, attempt, None, 0))

    def finished(self, attempt: Attempt, seen_ps: int, finish: Finish) -> None:
        """The last token will be here at ``seen_ps``."""
        self._hear((seen_ps, attempt, finish, finish.output_tokens))
        if self._may_follow[attempt.engine_request.workload]:
            self._wake_at(seen_ps)

    def failed(self, attempt: Attempt, seen_ps: int, cause: Cause, output_tokens: int) -> None:
        """The refusal or the break will be known at ``seen_ps``."""
        self._hear((seen_ps, attempt, cause, output_tokens))
        self._wake_at(seen_ps)

    def _hear(self, news: _News) -> None:
        pending = self._news
        if not pending or news[0] >= pending[-1][0]:
            pending.append(news)
        else:
            insort(pending, news, key=_seen)

    def _wake_at(self, seen_ps: int) -> None:
        # An end may bring a retry or a next turn, which must not be late. First tokens, and answers in an open
        # loop, bring nothing: they are booked when somebody looks.
        self._clock.call_at(max(seen_ps, self._clock.now), self._wake)

    def _wake(self, _: object) -> None:
        self._settle(self._clock.now)

    def _settle(self, until_ps: int) -> None:
        """Act on everything that clients know by then."""
        pending = self._news
        while pending and pending[0][0] <= until_ps:
            seen_ps, attempt, end, output_tokens = pending.popleft()
            request: LiveRequest = attempt.owner
            if request.attempt is not attempt:
                continue  # the client has given this attempt up
            if end is None:
                self._ledger.first_token(request, seen_ps)
            elif isinstance(end, Finish):
                self._ledger.completed(request, attempt, seen_ps, end)
                self._end(request, seen_ps, succeeded=True)
            else:
                self._ledger.attempt_failed(attempt, seen_ps, end, output_tokens)
                self._attempt_failed(request, end)

    # --- ends -------------------------------------------------------------------------------------------

    def _attempt_failed(self, request: LiveRequest, cause: Cause) -> None:
        """The attempt's row is written; try again, go elsewhere, or give up."""
        request.attempt = None
        now = self._clock.now
        spec = request.spec
        deadline_ps = (
            None if self._request_timeouts is None else spec.arrival_ps + self._request_timeouts.timeout_ps
        )
        send_ps = self._retries.next_send_ps(spec.request_id, request.attempts, cause, now, deadline_ps)
        if send_ps is not None:
            self._clock.call_at(send_ps, partial(self._retry, request))
        elif self._fallback is not None and cause is not Cause.CONTEXT_LENGTH:
            self._ask_fallback(request, self._fallback, cause)
        else:
            self._give_up(request, cause)

    def _retry(self, request: LiveRequest, _: object) -> None:
        self._settle(self._clock.now)
        if not request.over:
            self._send(request)

    def _give_up(self, request: LiveRequest, cause: Cause) -> None:
        now = self._clock.now
        self._ledger.gave_up(request, now, cause)
        self._end(request, now, succeeded=False)

    def _end(self, request: LiveRequest, end_ps: int, *, succeeded: bool) -> None:
        request.attempt = None
        request.over = True
        del self._live[request.request_id]
        if self._may_follow[request.workload]:
            follower = self._source.after(request.spec, end_ps, succeeded)
            if follower is not None:
                self._arrivals.add(follower)

    # --- timeouts ---------------------------------------------------------------------------------------

    def _request_expired(self, request: LiveRequest) -> None:
        self._settle(self._clock.now)
        if request.over:
            return
        if request.attempt is not None:
            self._abandon(request.attempt, Cause.TIMEOUT_REQUEST)
        elif request.fallback_ps is not None:
            self._leave_fallback(request)
        self._give_up(request, Cause.TIMEOUT_REQUEST)

    def _attempt_expired(self, attempt: Attempt, cause: Cause) -> None:
        self._settle(self._clock.now)
        if not is_current(attempt) or (cause is Cause.TIMEOUT_TTFT and self._got_first_token(attempt)):
            return
        self._abandon(attempt, cause)
        self._attempt_failed(request_of(attempt), cause)

    def _got_first_token(self, attempt: Attempt) -> bool:
        """The TTFT timeout cannot strike any more."""
        assert self._ttft_timeouts is not None
        first_ps = attempt.first_token_ps
        in_time = first_ps is not None and first_ps <= attempt.sent_ps + self._ttft_timeouts.timeout_ps
        return in_time or not is_current(attempt)

    def _abandon(self, attempt: Attempt, cause: Cause) -> None:
        """Close the connection of an attempt that has not ended for the client, and record it."""
        generated = self._gateway.cancel(attempt)
        # What ended below while the news of it was on the way is lost too, and its tokens are known.
        generated = max([generated, *(news[3] for news in self._news if news[1] is attempt)])
        self._forget_future(attempt)
        request_of(attempt).attempt = None
        self._ledger.attempt_failed(attempt, self._clock.now, cause, generated)

    def _forget_future(self, attempt: Attempt) -> None:
        """A first token that was still on the way never came."""
        if attempt.first_token_ps is not None and attempt.first_token_ps > self._clock.now:
            attempt.first_token_ps = None

    # --- fallback ---------------------------------------------------------------------------------------

    def _ask_fallback(self, request: LiveRequest, api: FallbackApi, cause: Cause) -> None:
        now = self._clock.now
        request.fallback_ps = now
        first_ps = now + api.ttft_ps
        self._clock.call_at(first_ps, partial(self._fallback_first, request, api, cause))

    def _fallback_first(self, request: LiveRequest, api: FallbackApi, cause: Cause, _: object) -> None:
        self._settle(self._clock.now)
        if request.over:
            return
        spec = request.spec
        if api.errs(spec.request_id):
            self._give_up(request, Cause.FALLBACK_ERROR)
            return
        self._ledger.first_token(request, self._clock.now)
        assert request.fallback_ps is not None
        end_ps = request.fallback_ps + api.last_token_ps(self._answer_tokens(spec))
        self._clock.call_at(end_ps, partial(self._fallback_last, request, api, cause))

    def _fallback_last(self, request: LiveRequest, api: FallbackApi, cause: Cause, _: object) -> None:
        self._settle(self._clock.now)
        if request.over:
            return
        assert request.fallback_ps is not None
        now = self._clock.now
        output_tokens = self._answer_tokens(request.spec)
        api.charge(request.spec.prompt_tokens, output_tokens)
        first_ps = request.fallback_ps + api.ttft_ps
        self._ledger.fell_back(request, first_ps, now, output_tokens, api.tpot_ps, cause)
        self._end(request, now, succeeded=True)

    def _leave_fallback(self, request: LiveRequest) -> int | None:
        """Pay for what the fallback API has generated; when its first token came, None if it did not."""
        api = self._fallback
        assert api is not None
        assert request.fallback_ps is not None
        elapsed_ps = self._clock.now - request.fallback_ps
        generated = api.generated(elapsed_ps, self._answer_tokens(request.spec))
        if not generated or api.errs(request.spec.request_id):
            return None
        api.charge(request.spec.prompt_tokens, generated)
        return request.fallback_ps + api.ttft_ps

    def _answer_tokens(self, spec: RequestSpec) -> int:
        return min(spec.output_tokens, self._cap(spec.max_tokens, spec.prompt_tokens))
