"""guidellm's reports, made by hand in the forms of its releases."""

from typing import Any

import pytest

from tests.validation.conftest import MakeFile
from validation.requests import Measured, RequestsError, read_requests


def new_request(**changes: Any) -> dict[str, Any]:
    """As from 0.4 on."""
    return {
        "request_id": "r",
        "info": {"timings": {"request_start": 100.25, "request_end": 100.33}},
        "request_start_time": 100.25,
        "prompt_tokens": 128,
        "output_tokens": 3,
        "time_to_first_token_ms": 40.0,
        "inter_token_latency_ms": 20.0,
        "time_per_output_token_ms": 26.7,
        "request_latency": 0.080,
    } | changes


def report(*requests: dict[str, Any], **groups: Any) -> dict[str, Any]:
    return {
        "metadata": {"guidellm_version": "0.5.3"},
        "args": {"model": "some/model"},
        "benchmarks": [
            {
                "config": {"strategy": {"type_": "concurrent", "streams": 4}},
                "requests": {"successful": list(requests), "incomplete": [], "errored": []} | groups,
            }
        ],
    }


MEASURED = Measured(ttft_ms=40.0, tpot_ms=20.0, e2e_ms=80.0)


def test_from_0_4_on(written: MakeFile) -> None:
    file = read_requests(written(report(new_request(), errored=[{}, {}]), "report.json"))
    request = file.requests[0]
    assert request is not None
    assert (request.arrival_s, request.input_tokens, request.output_tokens) == (100.25, 128, 3)
    assert request.measured == MEASURED
    assert (file.concurrency, file.model) == (4, "some/model")
    assert any("2 requests failed" in note for note in file.notes)


def test_start_inside_the_timings(written: MakeFile) -> None:
    request = new_request(request_start_time=None)
    file = read_requests(written(report(request), "report.json"))
    assert file.requests[0] is not None
    assert file.requests[0].arrival_s == 100.25


def test_0_2_and_0_3(written: MakeFile) -> None:
    old = {
        "prompt_tokens": 128,
        "output_tokens": 3,
        "start_time": 100.25,
        "first_token_time": 100.29,
        "end_time": 100.33,
        "time_to_first_token_ms": 40.0,
        "inter_token_latency_ms": 20.0,
        "request_latency": 0.080,
    }
    request = read_requests(written(report(old), "report.json")).requests[0]
    assert request is not None
    assert request.measured == MEASURED


def test_0_1(written: MakeFile) -> None:
    old = {
        "prompt_token_count": 128,
        "output_token_count": 3,
        "start_time": 100.25,
        "first_token_time": 100.29,
        "end_time": 100.33,
    }
    data = {"benchmarks": [{"benchmarks": [{"mode": "synchronous", "results": [old], "errors": []}]}]}
    request = read_requests(written(data, "report.json")).requests[0]
    assert request is not None
    assert request.measured.ttft_ms == pytest.approx(40.0)
    assert request.measured.tpot_ms == pytest.approx(20.0)
    assert request.measured.e2e_ms == pytest.approx(80.0)


def test_requests_that_the_end_of_the_benchmark_cut_are_load_and_nothing_else(written: MakeFile) -> None:
    cut = {"prompt_tokens": 64, "output_tokens": None, "request_start_time": 101.0}
    file = read_requests(
        written(report(new_request(), incomplete=[cut, {"prompt_tokens": None}]), "report.json")
    )
    _, request, unknown = file.requests
    assert request is not None
    assert (request.input_tokens, request.output_tokens, request.measured) == (64, 1, Measured())
    assert unknown is None


def test_a_sweep_holds_several(written: MakeFile) -> None:
    data = report(new_request())
    data["benchmarks"] *= 2
    with pytest.raises(RequestsError, match=r"holds 2 benchmarks.* 0 \(concurrent 4\), 1 \(concurrent 4\)"):
        read_requests(written(data, "report.json"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            report(new_request(prompt_tokens=None)),
            r"requests\.successful\.0: lacks the number of prompt tokens",
        ),
        (
            report(new_request(request_start_time=None, info={})),
            r"requests\.successful\.0: lacks a start time",
        ),
        ({"benchmarks": [{}]}, "requests: is missing from the benchmark"),
        ({"benchmarks": []}, "holds no benchmark"),
    ],
)
def test_what_is_told_of_a_bad_report(written: MakeFile, data: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestsError, match=reason):
        read_requests(written(data, "report.json"))
