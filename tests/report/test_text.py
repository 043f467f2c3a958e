from typing import Any

import pytest

from simulator.report import text
from simulator.statistics import draw_bands


@pytest.mark.parametrize(
    ("value", "half_width", "shown"),
    [
        (0.0142, None, "14.2 ms"),
        (0.99951, None, "1.00 s"),
        (1.234, None, "1.23 s"),
        (95.0, None, "95.0 s"),
        (1234.5, None, "1,230 s"),
        (0.0, None, "0 ms"),
        (None, None, "–"),
        (0.378, 0.0171, "378 ± 17 ms"),
        (11.52, 0.24, "11.5 ± 0.2 s"),
    ],
)
def test_seconds(value: float | None, half_width: float | None, shown: str) -> None:
    assert text.seconds(value, half_width) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.993, "99.3 %"),
        (0.99996, "99.996 %"),
        (0.00004, "0.004 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (None, "–"),
    ],
)
def test_percent_does_not_round_to_all_or_nothing(value: float | None, shown: str) -> None:
    assert text.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(28.62, "$28.62"), (12_345.6, "$12,346"), (0.0123, "$0.012"), (0.0, "$0.00"), (None, "–")],
)
def test_usd(value: float | None, shown: str) -> None:
    assert text.usd(value) == shown


def test_count_significant_clock_limit() -> None:
    assert text.count(51_514) == "51,514"
    assert text.count(6.74) == "6.7"
    assert text.significant(0.031) == "0.0310"
    assert text.significant(1130.4, 12.9) == "1,130 ± 13"
    assert text.clock(3723.4) == "1:02:03"
    assert text.clock(90_000) == "1 d 1:00:00"
    assert text.limit(0.05) == "50 ms"
    assert text.limit(2.0) == "2 s"


def _entry(regime: str, **errors: float | None) -> dict[str, Any]:
    known = {"ttft_pct": None, "tpot_pct": None, "e2e_pct": None} | errors
    return {"case": "A GPU", "regime": regime, "number": 300, "unit": "requests", **known}


def test_validated_errors_by_regime() -> None:
    entries = [_entry("all", ttft_pct=8.0, tpot_pct=1.76), _entry("knee", e2e_pct=0.9)]
    assert text.validated({"step_time": {"validated": entries}}) == (
        "Mean error against real runs (A GPU): all (300 requests) TTFT 8.0 %, TPOT 1.8 %; "
        "knee (300 requests) E2E 0.9 %."
    )
    assert text.validated({"step_time": {"validated": []}}) == "Never held against a real run."


def test_bands_over_draws_of_the_profile() -> None:
    summaries = [
        {"latency": {"ttft_s": {"p50": ttft_s, "p99": None}}, "slo": {"good_share": 0.99}}
        for ttft_s in (0.2, 0.25)
    ]
    summary = {"profile_draws": draw_bands(summaries, "records")}
    assert text.bands(summary) == [("TTFT p50", "200 ms to 250 ms"), ("good requests", "99.0 % to 99.0 %")]
    assert "2 draws" in text.bands_title(summary)
    assert text.bands({}) == []
