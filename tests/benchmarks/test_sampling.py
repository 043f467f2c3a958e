from collections.abc import Generator
from time import thread_time_ns

from simpy import Event

from benchmarks.sampling import ProcessTimer
from simulator.clock import Clock
from simulator.simpy_environment import IntegerEnvironment


def _work(_: object = None) -> None:
    until_ns = thread_time_ns() + 5_000_000
    while thread_time_ns() < until_ns:
        pass


def test_processes_are_timed_and_callbacks_are_not() -> None:
    clock = Clock()

    def process() -> Generator[Event, None, None]:
        yield clock.timeout(10)
        _work()

    step = IntegerEnvironment.step
    with ProcessTimer() as timer:
        clock.call_at(5, _work)
        clock.run(until=20)
        before_s = timer.cpu_s
        clock.process(process())
        clock.run(until=40)
    assert timer.cpu_s - before_s >= 0.005 > before_s
    assert IntegerEnvironment.step is step
