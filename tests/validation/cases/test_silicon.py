"""Closed-loop points: what is believed, and how they are sent."""

from pathlib import Path

import pytest

from validation.cases.silicon import Point, PointSetting, disbelieved, name_of, requests, resolve, settings
from validation.closed_loop import judge_points

H200 = PointSetting("meta-llama/Llama-3.1-8B-Instruct", "H200-SXM", "fp8", 1)
MAX = PointSetting("meta-llama/Llama-3.1-70B", "H100-SXM", "fp8", 4)


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (Point(1000, 100, 1, 30.0, 5.0), None),
        (Point(1000, 100, 1, 30.0, 1.0), "TPOT 1.00 ms is less than"),
        (Point(8000, 100, 1, 30.0, 5.0), "TTFT 30.0 ms is less than"),
        # 112 prompts of 1,000 tokens are 1.6e15 operations, and 1.68e15 a second is the best rate.
        (Point(1000, 100, 112, 71.9, 8.0), "the prompts of 112 take 0.9"),
    ],
)
def test_what_beats_the_roofline_is_not_believed(point: Point, reason: str | None) -> None:
    why = disbelieved(point, H200)
    assert (why is None) if reason is None else (why is not None and reason in why)


def test_lengths_are_drawn_where_the_client_is_known_to() -> None:
    drawn = requests(Point(1000, 100, 4, 1.0, 1.0), MAX)
    assert len(drawn) == 40
    assert all(
        800 <= request.input_tokens <= 1000 and 80 <= request.output_tokens <= 100 for request in drawn
    )
    assert len({request.input_tokens for request in drawn}) > 20
    assert {request.input_tokens for request in requests(Point(1000, 100, 4, 1.0, 1.0), H200)} == {1000}


def test_a_point_that_is_its_own_prediction() -> None:
    from validation.single_replica import replay

    point = Point(1024, 32, 4, 1.0, 1.0)
    deployment = resolve(MAX, point)
    assert not isinstance(deployment, str)
    times = replay(deployment.plan, requests(point, MAX), concurrency=4).requests
    itself = Point(1024, 32, 4, float(times["ttft_ms"].mean()), float(times["tpot_ms"].mean()))
    figures = judge_points(MAX, [itself, Point(1024, 32, 4, 0.001, 1.0)])
    assert figures["groups"]["all"]["points"] == 1
    assert figures["groups"]["all"]["ttft_ms"]["mape_pct"] == pytest.approx(0.0, abs=1e-9)
    assert len(figures["left_out"]) == 1
    assert [bar["at_most"] for bar in figures["bars"]] == [12.0, 6.0]


def test_a_model_that_does_not_fit_says_so() -> None:
    lone = PointSetting("meta-llama/Llama-3.1-70B", "H100-SXM", "bfloat16", 1)
    figures = judge_points(lone, [Point(1024, 32, 4, 1.0, 1.0)])
    assert figures["points"] == []
    assert "do not fit" in figures["left_out"][0]["why"]


def test_the_collection(data: Path) -> None:
    found = settings(data)
    assert name_of(MAX) in {name_of(setting) for setting in found}
    assert len(found[MAX]) == 15
    assert not any(disbelieved(point, MAX) for point in found[MAX])
