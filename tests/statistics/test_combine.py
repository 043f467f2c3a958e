import pytest

from simulator.statistics import combine


def summary(seed: int, p99: float | None, errors: dict[str, int], verdict: str) -> dict[str, object]:
    return {
        "schema_version": 1,
        "run": {"seed": seed, "duration_s": 10.0},
        "slo": {"verdict": verdict, "good_share": 0.9, "target_share": 0.95, "limits": {"ttft_s": 2.0}},
        "latency": {"ttft_s": {"p99": p99}},
        "requests": {"errors_by_cause": errors},
        "notes": ["a"],
    }


def test_every_figure_gets_a_mean_and_an_interval() -> None:
    combined = combine([summary(1, 1.0, {}, "met"), summary(2, 3.0, {"cut_failure": 4}, "missed")])
    assert combined["replications"] == 2
    assert combined["seeds"] == [1, 2]
    assert combined["slo_met_share"] == 0.5
    p99 = combined["figures"]["latency"]["ttft_s"]["p99"]
    # t(0.975, 1) = 12.706205, s = sqrt 2, over sqrt 2
    assert p99["mean"] == 2.0
    assert p99["half_width"] == pytest.approx(12.706205, rel=1e-6)
    assert (p99["low"], p99["high"]) == pytest.approx((-10.706205, 14.706205), rel=1e-6)


def test_a_cause_that_did_not_occur_counts_as_zero() -> None:
    combined = combine([summary(1, 1.0, {}, "met"), summary(2, 3.0, {"cut_failure": 4}, "met")])
    assert combined["figures"]["requests"]["errors_by_cause"]["cut_failure"]["mean"] == 2.0


def test_an_undefined_figure_is_left_out_and_counted() -> None:
    combined = combine([summary(1, None, {}, "met"), summary(2, 3.0, {}, "met")])
    p99 = combined["figures"]["latency"]["ttft_s"]["p99"]
    assert (p99["mean"], p99["half_width"], p99["replications"]) == (3.0, None, 1)


def test_identity_and_limits_are_not_averaged() -> None:
    figures = combine([summary(1, 1.0, {}, "met")])["figures"]
    assert set(figures) == {"slo", "latency"}
    assert set(figures["slo"]) == {"good_share"}


def test_nothing_cannot_be_combined() -> None:
    with pytest.raises(ValueError, match="nothing"):
        combine([])
