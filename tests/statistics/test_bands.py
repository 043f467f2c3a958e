import pytest

from simulator.statistics import draw_bands


def _summary(ttft_s: float, good_share: float | None = 1.0) -> dict[str, object]:
    latency = {"ttft_s": {"p50": ttft_s, "p99": 10 * ttft_s}, "tpot_s": {"p50": None, "p99": None}}
    return {"latency": latency, "slo": {"good_share": good_share}}


def test_lowest_median_and_highest() -> None:
    bands = draw_bands([_summary(x) for x in (0.3, 0.1, 0.2, 0.5)], "records")
    assert bands["latency"]["ttft_s"]["p50"] == {"low": 0.1, "median": 0.25, "high": 0.5}
    assert bands["latency"]["ttft_s"]["p99"]["high"] == 5.0
    assert bands["coverage"] == pytest.approx(3 / 5)
    assert bands["source"] == "records"


def test_what_a_draw_lacks_has_no_band() -> None:
    bands = draw_bands([_summary(0.1), _summary(0.2, None)], "records")
    assert bands["latency"]["tpot_s"] == bands["latency"]["e2e_s"] == {"p50": None, "p99": None}
    assert bands["good_share"] is None
