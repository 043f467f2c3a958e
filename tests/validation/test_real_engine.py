from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from calibration.capture_format import read_capture
from validation.real_engine import main
from validation.real_trace import TRACES, RealTrace, differing_steps, replay, traces_of

RECORDS = Path(__file__).parents[2] / "calibration" / "records"
CAPTURES = [TRACES, *sorted(path.parent for path in RECORDS.glob("*/manifest.json"))]


@cache
def _traces(folder: Path = TRACES) -> list[RealTrace]:
    return list(traces_of(read_capture(folder)))


@pytest.mark.parametrize("folder", CAPTURES, ids=lambda folder: folder.name)
def test_our_engine_takes_every_step_of_the_real_one(folder: Path) -> None:
    traces = _traces(folder)
    assert [differing_steps(trace) for trace in traces] == [[]] * len(traces)


def test_the_recorded_decisions_cover_preemption_prefixes_and_both_policies() -> None:
    traces = _traces()
    assert sum(len(trace.steps) for trace in traces) >= 1000
    assert all(trace.num_preemptions > 20 for trace in traces)
    assert all(trace.num_prefix_hits > 20 for trace in traces)
    assert {trace.config.policy for trace in traces} == {"fcfs", "priority"}


def test_every_request_of_a_trace_finishes() -> None:
    for trace in _traces():
        ended = [request_id for row in replay(trace)[1] for request_id in row]
        last = {request_id for request_id, _, _ in trace.steps[-1].scheduled}
        assert set(ended) | last == {request.request_id for _, request in trace.arrivals}


def test_another_setting_takes_other_steps() -> None:
    trace = _traces()[0]
    config = replace(trace.config, num_gpu_blocks=trace.config.num_gpu_blocks + 1)
    assert differing_steps(replace(trace, config=config))


def test_without_vllm_the_command_replays_the_recorded_capture(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("validation.real_engine.vllm_version", lambda: None)
    assert main([]) == 0
    assert " 0 differing steps" in capsys.readouterr().out


def test_no_capture(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main([str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err
