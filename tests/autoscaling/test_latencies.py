"""vLLM's latency histograms as a scrape finds them."""

from types import SimpleNamespace

import pytest

from simulator.autoscaling.latencies import (
    BOUNDS_S,
    E2E,
    HISTOGRAM_SERIES,
    ITL,
    TTFT,
    Latencies,
    ServerLatencies,
    bucket_names,
    histogram_of,
)
from simulator.records.recorder import Recorder
from simulator.scenario.load import load_scenario
from simulator.simulation import Simulation
from simulator.units import to_ps
from tests import small


class Inner:
    def __init__(self):
        self.heard = []
        self.gaps = []

    def first_token(self, *told):
        self.heard.append("first_token")

    def finished(self, *told):
        self.heard.append("finished")

    def failed(self, *told):
        self.heard.append("failed")

    def add(self, *gaps):
        self.gaps.append(gaps)


@pytest.fixture
def server():
    inner = Inner()
    made = ServerLatencies(inner, inner, lambda tokens: to_ps(0.001 * tokens))
    made.inner = inner
    return made


def attempt(engine_s, prompt=100):
    return SimpleNamespace(engine_ps=to_ps(engine_s), engine_request=SimpleNamespace(prompt_tokens=prompt))


def read(server, now_s):
    values = {}
    server.write(values, to_ps(now_s))
    return values


def test_ttft_runs_from_the_front_end(server):
    # In the engine's queue at 1 s, 0.1 s after the front end; first token at 1.5 s: 0.6 s.
    server.first_token(attempt(1.0), to_ps(1.5))
    values = read(server, 2)
    assert values[f"{TTFT}_count"] == 1
    assert values[f"{TTFT}_sum"] == pytest.approx(0.6)
    assert values[f'{TTFT}_bucket{{le="0.5"}}'] == 0
    assert values[f'{TTFT}_bucket{{le="0.75"}}'] == 1
    assert values[f'{TTFT}_bucket{{le="+Inf"}}'] == 1
    assert server.inner.heard == ["first_token"]


def test_nothing_is_read_before_it_is_seen(server):
    server.finished(attempt(1.0), to_ps(5.0), None)
    assert read(server, 4.9)[f"{E2E}_count"] == 0
    assert read(server, 5)[f"{E2E}_count"] == 1
    assert read(server, 6)[f"{E2E}_count"] == 1


def test_failures_are_only_passed_on(server):
    server.failed(attempt(1.0), to_ps(2), None, 3)
    assert server.inner.heard == ["failed"]
    assert read(server, 3)[f"{E2E}_count"] == 0


def test_gaps_are_counted_by_tokens(server):
    server.add(1, to_ps(0.02), 0, 10, 3)  # ten steps of 20 ms for three requests
    server.add(0, to_ps(0.06), 0, 1, 1)
    values = read(server, 1)
    assert values[f"{ITL}_count"] == 31
    assert values[f"{ITL}_sum"] == pytest.approx(0.66)
    assert values[f'{ITL}_bucket{{le="0.025"}}'] == 30
    assert values[f'{ITL}_bucket{{le="0.075"}}'] == 31
    assert server.inner.gaps == [(1, to_ps(0.02), 0, 10, 3), (0, to_ps(0.06), 0, 1, 1)]


def test_bounds_rise_and_have_names():
    for name, bounds in BOUNDS_S.items():
        assert list(bounds) == sorted(bounds)
        assert len(bucket_names(name)) == len(bounds) + 1
    assert histogram_of(f"{TTFT}_bucket") == TTFT
    assert histogram_of("vllm:num_requests_running") is None
    assert f"{ITL}_sum" in HISTOGRAM_SERIES


def test_a_pod_without_a_server_has_none():
    latencies, values = Latencies(), {}
    latencies.write("p", values, 0)
    latencies.forget("p")
    assert values == {}


def test_a_run_observes_what_its_requests_had(tmp_path):
    """The histogram's count and sum over a run against the attempts' own times."""
    metric = {
        "type": "External",
        "external": {
            "metric": {"name": f"{TTFT}_count"},
            "target": {"type": "AverageValue", "averageValue": "1000000"},
        },
    }
    path = small.write(tmp_path, {"fleet": {"replicas": 1}}, hpa={"spec": {"metrics": [metric]}})
    loaded = load_scenario(path)
    recorder = Recorder([workload.name for workload in loaded.scenario.workload])
    simulation = Simulation(loaded, recorder)
    simulation.run()
    values = {}
    simulation._latencies.write("vllm-0", values, simulation.clock.now)
    attempts = recorder.tables().attempts
    completed = attempts[attempts.outcome == "completed"]
    assert values[f"{E2E}_count"] == len(completed)
    assert values[f"{TTFT}_count"] >= len(completed)
    assert 0 < values[f"{TTFT}_sum"] < values[f"{E2E}_sum"]
