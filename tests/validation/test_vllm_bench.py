"""Results of ``vllm bench serve``, made by hand in the form of vLLM 0.32."""

from typing import Any

import pytest

from tests.validation.conftest import MakeFile
from validation.requests import RequestsError, read_requests


def bench(**changes: Any) -> dict[str, Any]:
    return {
        "date": "20260101-000000",
        "backend": "vllm",
        "model_id": "meta-llama/Llama-3.1-8B",
        "num_prompts": 3,
        "request_rate": 2.0,
        "max_concurrency": None,
        "request_throughput": 1.0,
        "input_lens": [100, 200, 300],
        "output_lens": [3, 0, 1],
        "ttfts": [0.050, 0.0, 0.080],
        "itls": [[0.010, 0.014], [], []],
        "latencies": [0.074, 0.0, 0.080],
        "start_times": [1000.5, 1000.9, 1001.5],
        "generated_texts": ["a", "", "b"],
        "errors": ["", "Traceback", ""],
    } | changes


def test_requests_and_what_the_client_measured(written: MakeFile) -> None:
    file = read_requests(written(bench(), "bench.json"))
    first, failed, last = file.requests
    assert failed is None
    assert first is not None
    assert last is not None
    assert (first.arrival_s, first.input_tokens, first.output_tokens) == (1000.5, 100, 3)
    assert first.measured.ttft_ms == pytest.approx(50.0)
    assert first.measured.tpot_ms == pytest.approx(12.0)
    assert first.measured.e2e_ms == pytest.approx(74.0)
    assert last.measured.tpot_ms is None
    assert file.cells == [["0.000000", "100", "3"], ["", "", ""], ["1.000000", "300", "1"]]
    assert file.model == "meta-llama/Llama-3.1-8B"
    assert any("1 requests failed" in note for note in file.notes)


def test_a_release_without_latencies_adds_up_the_gaps(written: MakeFile) -> None:
    data = bench(max_concurrency=8)
    del data["latencies"]
    file = read_requests(written(data, "bench.json"))
    assert file.requests[0] is not None
    assert file.requests[0].measured.e2e_ms == pytest.approx(74.0)
    assert file.concurrency == 8


def test_all_at_once_needs_no_start_times(written: MakeFile) -> None:
    data = bench(request_rate="inf")
    del data["start_times"]
    assert {r.arrival_s for r in read_requests(written(data, "bench.json")).requests if r} == {0.0}


def test_several_results_appended_to_one_file(written: MakeFile) -> None:
    import json

    path = written("\n".join(json.dumps(bench(date=date)) for date in ("one", "two")), "bench.jsonl")
    with pytest.raises(
        RequestsError, match=r"holds 2 benchmarks; choose one by --benchmark: 0 \(one, rate 2.0\)"
    ):
        read_requests(path)
    assert len(read_requests(path, benchmark=1).requests) == 3
    with pytest.raises(RequestsError, match="has no benchmark 2"):
        read_requests(path, benchmark=2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"input_lens": None}, "input_lens: is missing: run `vllm bench serve` with --save-detailed"),
        ({"start_times": None}, "start_times: is missing"),
        ({"input_lens": [1, "2", 3]}, "request 1: expected whole numbers, not '2' and 0"),
        ({"output_lens": [0, 0, 0]}, "no request in it succeeded"),
    ],
)
def test_what_is_told_of_a_bad_result(written: MakeFile, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestsError, match=reason):
        read_requests(written(bench(**change), "bench.json"))
