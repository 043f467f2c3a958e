from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.scenario.errors import ScenarioError
from simulator.scenario.workload import WorkloadConfig
from simulator.units import to_ps
from simulator.workload import RequestSpec, expected_mean_rate, expected_rate

FIXED = {"kind": "fixed", "input": 100, "output": 50}

PROCESSES = st.sampled_from(
    [
        {"kind": "poisson", "rate": "3/s"},
        {"kind": "gamma", "rate": "5/s", "burstiness": 0.3},
        {"kind": "gamma", "rate": "5/s", "burstiness": 2, "num_requests": 40, "rescale": True},
        {"kind": "constant", "rate": "2/s"},
        {"kind": "spikes", "mean_rate": "4/s", "peak_factor": 3, "ramp": "2s", "hold": "1s", "every": "20s"},
        {"kind": "diurnal", "mean_rate": "3/s", "amplitude": 1, "period": "30s", "peak_at": "0s"},
        {"kind": "weekly", "mean_rate": "3/s"},
        {"kind": "curve", "points": [{"at": "1s", "rate": 0}, {"at": "5s", "rate": 9}], "period": "7s"},
        {"kind": "builtin", "model": "azure-2023-code", "mean_rate": "5/s", "offset": "100s"},
        {"kind": "sum", "of": [{"kind": "poisson", "rate": "1/s"}, {"kind": "constant", "rate": "1/s"}]},
        {"kind": "closed-loop", "users": 7, "ramp": "10s"},
    ]
)
SESSIONS = st.sampled_from([None, {"turns": 1}, {"turns": {"kind": "uniform", "min": 1, "max": 4}}])
ENTRIES = st.fixed_dictionaries(
    {
        "arrivals": PROCESSES,
        "sessions": SESSIONS,
        "lengths": st.sampled_from([FIXED, {"kind": "builtin", "model": "azure-2024-conversation"}]),
        "max_tokens": st.sampled_from([None, "output", 64]),
        "start": st.sampled_from(["0s", "3.3s"]),
        "duration": st.sampled_from([None, "20s"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(entries=st.lists(ENTRIES, min_size=1, max_size=3), seed=st.integers(0, 2**40))
def test_arrivals_are_sorted_unique_within_the_run_and_repeatable(
    make_source: Any, entries: list[dict[str, Any]], seed: int
) -> None:
    def make() -> Iterator[RequestSpec]:
        return make_source(*entries, duration_s=40.0, seed=seed).arrivals()

    specs = list(make())
    assert specs == list(make())
    assert [(s.arrival_ps, s.workload) for s in specs] == sorted((s.arrival_ps, s.workload) for s in specs)
    assert len({spec.request_id for spec in specs}) == len(specs)
    for spec in specs:
        entry = entries[spec.workload]
        begin = 3.3 if entry["start"] == "3.3s" else 0.0
        end = 40.0 if entry["duration"] is None else begin + 20
        assert to_ps(begin) <= spec.arrival_ps < to_ps(end)
        assert spec.prompt_tokens >= 1
        assert spec.output_tokens >= 1
        cap = entry["max_tokens"]
        assert spec.max_tokens == (spec.output_tokens if cap == "output" else cap)
        assert all(type(value) is int for value in spec[:5])


def test_an_entry_does_not_depend_on_its_neighbours(make_source: Any) -> None:
    chat = {
        "name": "chat",
        "arrivals": {"kind": "poisson", "rate": "5/s"},
        "lengths": {"kind": "builtin", "model": "azure-2023-conversation"},
    }
    other = {"name": "other", "arrivals": {"kind": "poisson", "rate": "9/s"}, "lengths": FIXED}
    alone = list(make_source(chat).arrivals())
    mixed = [spec for spec in make_source(chat, other).arrivals() if spec.workload == 0]
    assert alone == mixed
    second = [spec for spec in make_source(other, chat).arrivals() if spec.workload == 1]
    assert [spec[2:6] for spec in second] == [spec[2:6] for spec in alone]


def test_lengths_do_not_depend_on_the_rate(make_source: Any) -> None:
    def chat(rate: str) -> dict[str, Any]:
        return {
            "arrivals": {"kind": "poisson", "rate": rate},
            "lengths": {"kind": "builtin", "model": "azure-2023-code"},
        }

    slow, fast = (list(make_source(chat(rate)).arrivals()) for rate in ("5/s", "9/s"))
    assert [spec[3:6] for spec in slow] == [spec[3:6] for spec in fast][: len(slow)]


def test_memory_stays_flat(make_source: Any) -> None:
    source = make_source(
        {"arrivals": {"kind": "poisson", "rate": "1000/s"}, "lengths": FIXED}, duration_s=1e6
    ).arrivals()
    tracemalloc.start()
    for _ in islice(source, 200_000):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_start_after_the_end_is_refused(make_source: Any) -> None:
    entry = {"arrivals": {"kind": "poisson", "rate": "1/s"}, "lengths": FIXED, "start": "100s"}
    with pytest.raises(ScenarioError, match=r"workload\.0\.start"):
        make_source(entry)


def test_bad_row_comes_up_when_the_replay_gets_there(make_source: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,input_tokens,output_tokens\n1,2,3\n2,x,3\n")
    source = make_source({"arrivals": {"kind": "trace", "file": "t.csv"}}, base_dir=tmp_path).arrivals()
    assert next(source).prompt_tokens == 2
    with pytest.raises(ScenarioError, match="line 3"):
        next(source)


def test_expected_rate_is_that_of_the_window() -> None:
    config = WorkloadConfig.model_validate(
        {
            "name": "a",
            "arrivals": {"kind": "constant", "rate": "4/s"},
            "lengths": FIXED,
            "start": "10s",
            "duration": "20s",
            "sessions": {"turns": 3},
        }
    )
    curve = expected_rate(config, to_ps(40))
    assert curve is not None
    assert curve.rate_at([5.0, 15.0, 29.9, 30.0, 35.0]).tolist() == [0, 4, 4, 0, 0]
    assert expected_mean_rate(config, to_ps(40)) == pytest.approx(4 * 3 * 20 / 40)


def test_expected_rate_of_a_closed_loop_is_unknown() -> None:
    config = WorkloadConfig.model_validate(
        {"name": "a", "arrivals": {"kind": "closed-loop", "users": 3}, "lengths": FIXED}
    )
    assert expected_rate(config, to_ps(10)) is None
    assert expected_mean_rate(config, to_ps(10)) is None


def test_counts_follow_the_expected_rate(make_source: Any) -> None:
    entry = {
        "name": "a",
        "arrivals": {
            "kind": "spikes",
            "mean_rate": "50/s",
            "peak_factor": 4,
            "ramp": "20s",
            "hold": "10s",
            "every": "300s",
        },
        "lengths": FIXED,
        "start": "30s",
    }
    times = np.array([spec.arrival_ps / 1e12 for spec in make_source(entry, duration_s=930.0).arrivals()])
    curve = expected_rate(WorkloadConfig.model_validate(entry), to_ps(930))
    assert curve is not None
    edges = np.arange(0.0, 931.0, 10.0)
    expected = np.array([np.mean(curve.rate_at(edge + np.arange(0.05, 10, 0.1))) * 10 for edge in edges[:-1]])
    counts = np.histogram(times, edges)[0]
    assert (counts[:3] == 0).all()
    z = (counts[3:] - expected[3:]) / np.sqrt(expected[3:])
    assert np.mean(z**2) == pytest.approx(1.0, abs=0.5)
