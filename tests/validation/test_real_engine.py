from dataclasses import replace

from validation.real_engine import main
from validation.real_trace import TRACES, RealTrace, differing_steps, replay

PATHS = sorted(TRACES.glob("*.json.xz"))


def test_our_engine_takes_every_step_of_the_real_one() -> None:
    traces = [RealTrace.read(path) for path in PATHS]
    assert [differing_steps(trace) for trace in traces] == [[]] * len(traces)
    assert sum(len(trace.steps) for trace in traces) >= 1000
    assert all(trace.num_preemptions > 20 for trace in traces)
    assert all(trace.num_prefix_hits > 20 for trace in traces)
    assert {trace.config.policy for trace in traces} == {"fcfs", "priority"}


def test_every_request_of_a_trace_finishes() -> None:
    for path in PATHS:
        trace = RealTrace.read(path)
        ended = [request_id for row in replay(trace)[1] for request_id in row]
        last = {request_id for request_id, _, _ in trace.steps[-1].scheduled}
        assert set(ended) | last == {request.request_id for _, request in trace.arrivals}


def test_another_setting_takes_other_steps() -> None:
    trace = RealTrace.read(PATHS[0])
    config = replace(trace.config, num_gpu_blocks=trace.config.num_gpu_blocks + 1)
    assert differing_steps(replace(trace, config=config))


def test_a_trace_survives_its_file_form(tmp_path) -> None:  # type: ignore[no-untyped-def]
    trace = RealTrace.read(PATHS[0])
    trace.write(tmp_path / "trace")
    assert RealTrace.read(tmp_path / "trace") == trace


def test_without_vllm_the_command_replays_the_traces(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("validation.real_engine.vllm_version", lambda: None)
    assert main([]) == 0
    assert " 0 differing steps" in capsys.readouterr().out
