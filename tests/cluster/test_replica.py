"""The replica against a scripted engine: ordering, latencies, kills, drains."""

from simulator.attempts import Attempt
from simulator.clock import Clock
from simulator.cluster.replica import Replica
from simulator.engines.protocol import Delivery, DeliveryKind, EngineRequest, EngineSnapshot, Finish
from simulator.outcomes import Cause

FINISH = Finish("length", 3, 0, 0, 0, 0, 0)


class ScriptedEngine:
    """Serves one batch at a time: whatever waits when a step starts ends 10 ps later."""

    def __init__(self, refuse=None):
        self.refuse = refuse
        self.waiting, self.running, self.end, self.log = [], [], None, []

    def submit(self, request, now):
        if self.refuse:
            return self.refuse
        self.waiting.append(request.request_id)
        self.log.append(("submit", now))
        if self.end is None and not self.running:
            self.end = now
        return None

    def abort(self, request_id, now):
        self.log.append(("abort", now))
        for queue in (self.waiting, self.running):
            if request_id in queue:
                queue.remove(request_id)
        if not self.waiting and not self.running:
            self.end = None
        return 2

    def next_time(self):
        return self.end

    def advance(self, t):
        assert t == self.end
        done = [Delivery(t, DeliveryKind.FIRST_TOKEN, i) for i in self.running]
        done += [Delivery(t, DeliveryKind.FINISHED, i, FINISH) for i in self.running]
        self.running, self.waiting = self.waiting, []
        self.log.append(("schedule", t, tuple(self.running)))
        self.end = t + 10 if self.running else None
        return done

    def peek(self, t):
        return EngineSnapshot(t, len(self.running), len(self.waiting), 0, 1)


class Listener:
    def __init__(self):
        self.news = []

    def first_token(self, attempt, seen_ps):
        self.news.append(("first", attempt.attempt_id, seen_ps))

    def finished(self, attempt, seen_ps, finish):
        self.news.append(("finished", attempt.attempt_id, seen_ps))

    def failed(self, attempt, seen_ps, cause, output_tokens):
        self.news.append(("failed", attempt.attempt_id, seen_ps, cause, output_tokens))


def build(**options):
    clock, listener = Clock(), Listener()
    engine = options.pop("engine", None) or ScriptedEngine()
    replica = Replica(clock, "pod-0", engine, listener, **options)
    return clock, engine, listener, replica


def attempt(number):
    return Attempt(number, 0, EngineRequest(number, 5, 3, 3), 0, None)


def at(clock, t, call):
    clock.call_at(t, lambda _: call())


def test_a_schedule_sees_every_arrival_of_its_instant():
    clock, engine, _, replica = build()
    at(clock, 5, lambda: replica.submit(attempt(1)))
    at(clock, 5, lambda: replica.submit(attempt(2)))
    clock.run()
    assert ("schedule", 5, (1, 2)) in engine.log


def test_news_carry_the_front_ends_time():
    clock, engine, listener, replica = build(frontend_in_ps=3, frontend_out_ps=4)
    at(clock, 5, lambda: replica.submit(attempt(1)))
    clock.run()
    assert engine.log[0] == ("submit", 8)
    assert listener.news == [("first", 1, 22), ("finished", 1, 22)]


def test_a_refusal_is_told_with_its_cause():
    clock, _, listener, replica = build(engine=ScriptedEngine(refuse="queue_full"))
    at(clock, 5, lambda: replica.submit(attempt(1)))
    clock.run()
    assert listener.news == [("failed", 1, 5, Cause.ENGINE_QUEUE_FULL, 0)]


def test_a_kill_cuts_every_stream_once_and_nothing_follows():
    clock, _, listener, replica = build(frontend_in_ps=2)
    at(clock, 0, lambda: replica.submit(attempt(1)))
    at(clock, 6, lambda: replica.submit(attempt(2)))
    at(clock, 7, lambda: replica.kill(Cause.CUT_SPOT_RECLAIM))
    at(clock, 7, lambda: replica.kill(Cause.CUT_SPOT_RECLAIM))
    clock.run()
    assert listener.news == [
        ("failed", 1, 7, Cause.CUT_SPOT_RECLAIM, 2),
        ("failed", 2, 7, Cause.CUT_SPOT_RECLAIM, 0),
    ]


def test_a_request_sent_to_a_dead_process_breaks():
    clock, _, listener, replica = build()
    replica.kill(Cause.CUT_TERMINATION)
    at(clock, 1, lambda: replica.submit(attempt(1)))
    clock.run()
    assert listener.news == [("failed", 1, 1, Cause.CUT_TERMINATION, 0)]


def test_an_abort_in_the_front_end_never_reaches_the_engine():
    clock, engine, listener, replica = build(frontend_in_ps=5)
    one = attempt(1)
    at(clock, 0, lambda: replica.submit(one))
    at(clock, 3, lambda: replica.abort(one))
    clock.run()
    assert engine.log == []
    assert listener.news == []


def test_when_empty_waits_for_the_last_attempt():
    clock, _, _, replica = build()
    empty_at = []
    at(clock, 0, lambda: replica.submit(attempt(1)))
    at(clock, 1, lambda: replica.when_empty(lambda: empty_at.append(clock.now)))
    clock.run()
    assert empty_at == [10]


class RestlessEngine(ScriptedEngine):
    """Changes its mind at each submission about when it must be advanced; says nothing of what it does then."""

    def __init__(self, ends):
        super().__init__()
        self.ends = iter(ends)

    def submit(self, request, now):
        self.end = next(self.ends)

    def advance(self, t):
        assert t == self.end
        self.log.append(t)
        self.end = None
        return []


def test_the_engine_is_advanced_when_it_last_said_however_often_it_changed_its_mind():
    clock, engine, _, replica = build(engine=RestlessEngine([50, 20, 40, 45, 60]))
    for t in (1, 2, 3, 35):
        at(clock, t, lambda t=t: replica.submit(attempt(t)))
    clock.run(until=35)
    assert engine.log == []  # 20 became 40, and the wake-up at 20 found nothing to do
    clock.run(until=36)
    at(clock, 37, lambda: replica.submit(attempt(37)))
    clock.run()
    assert engine.log == [60]
