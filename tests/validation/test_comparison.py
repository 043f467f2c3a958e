"""Errors, by hand."""

import pandas as pd
import pytest

from validation.comparison import compare, paired_errors, table, throughput


def test_errors_of_pairs() -> None:
    figures = paired_errors([110.0, 95.0, 100.0, 5.0], [100.0, 100.0, 100.0, float("nan")])
    assert figures is not None
    assert figures["pairs"] == 3
    assert figures["mape_pct"] == pytest.approx(5.0)
    assert figures["median_ape_pct"] == pytest.approx(5.0)
    assert figures["p90_ape_pct"] == pytest.approx(9.0)
    assert figures["bias_pct"] == pytest.approx(0.0)
    assert figures["median_abs_ms"] == pytest.approx(5.0)
    assert figures["ks"] == pytest.approx(1 / 3)
    assert figures["mean"] == pytest.approx(
        {"measured": 100.0, "predicted": 305 / 3, "error_pct": 100 * (305 / 300 - 1)}
    )


def test_nothing_to_compare() -> None:
    assert paired_errors([1.0], [float("nan")]) is None
    assert compare(pd.DataFrame({"ttft_ms": [1.0]}), pd.DataFrame({"tpot_ms": [1.0]})) == {}


def test_rates_of_what_ended() -> None:
    requests = pd.DataFrame({"arrival_s": [1.0, 2.0, 3.0], "e2e_ms": [1000.0, 4000.0, float("nan")]})
    assert throughput(requests, [10, 40, 99]) == pytest.approx(
        {"makespan_s": 5.0, "requests_per_s": 0.4, "output_tokens_per_s": 10.0}
    )
    assert throughput(requests.assign(e2e_ms=float("nan")), [1, 1, 1]) == {}


def test_the_table_names_every_metric() -> None:
    frame = pd.DataFrame({"ttft_ms": [1.0, 2.0], "tpot_ms": [1.0, 2.0], "e2e_ms": [1.0, 2.0]})
    lines = table(compare(frame, frame)).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["TTFT", "TPOT", "E2E"]
    assert lines[1].count("0.00 %") == 5
