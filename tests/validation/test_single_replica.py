"""A replay is a scenario with one replica, no gateway and patient clients."""

from pathlib import Path

import numpy as np

from simulator.resolve import resolve_replica
from simulator.scenario.load import load_scenario
from tests import small
from validation.requests import RecordedRequest
from validation.single_replica import replay

READY_S = 200.0


def test_the_same_times_as_a_scenarios(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    requests = [
        RecordedRequest(float(t), int(n), int(m))
        for t, n, m in zip(
            np.cumsum(rng.exponential(0.05, 80)).round(6), rng.integers(1, 900, 80), rng.integers(1, 120, 80)
        )
    ]
    first_s = requests[0].arrival_s
    rows = [f"{READY_S + r.arrival_s - first_s:.6f},{r.input_tokens},{r.output_tokens}" for r in requests]
    (tmp_path / "trace.csv").write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    change = {
        "engine": {"vllm": {"num-gpu-blocks-override": 140, "max-num-seqs": 32}},
        "duration": "400s",
        "drain": "20m",
        "fleet": {"replicas": 1},
        "gateway": {"latency": 0},
        "clients": {"timeout": None},
    }
    path = small.write(tmp_path, change)
    text = path.read_text()
    begin = text.index("workload:")
    end = text.index("slo:")
    trace = "workload:\n- name: trace\n  arrivals: {kind: trace, file: trace.csv, format: csv}\n  max_tokens: output\n"
    path.write_text(text[:begin] + trace + text[end:])
    scenario = small.run(path).tables.requests.sort_values("request_id")
    assert set(scenario["outcome"]) == {"completed"}
    plan = resolve_replica(load_scenario(path))
    replayed = replay(plan, requests).requests
    for ours, theirs in (
        ("ttft_ms", "ttft_s"),
        ("tpot_ms", "tpot_s"),
        ("e2e_ms", "e2e_s"),
        ("queue_ms", "queue_s"),
    ):
        np.testing.assert_allclose(replayed[ours], 1e3 * scenario[theirs].to_numpy(float), rtol=0, atol=1e-6)
    assert replayed["preemptions"].tolist() == scenario["preemptions"].tolist()
    assert replayed["preemptions"].sum() > 0
