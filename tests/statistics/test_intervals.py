import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.statistics import holm, paired_difference, t_interval


def test_t_interval_by_hand() -> None:
    # 1..5: mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445 (any t table)
    interval = t_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3
    assert interval.half_width == pytest.approx(2.7764451 * np.sqrt(2.5 / 5), rel=1e-7)
    assert (interval.low, interval.high) == pytest.approx((3 - 1.963243, 3 + 1.963243), rel=1e-6)


def test_one_replication_has_no_interval() -> None:
    interval = t_interval([7.0])
    assert (interval.mean, interval.half_width, interval.low, interval.high) == (7.0, None, None, None)


def test_coverage_is_nominal_for_normal_figures() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(2000):
        interval = t_interval(rng.normal(10, 3, size=5).tolist())
        assert interval.half_width is not None
        covered += abs(interval.mean - 10) <= interval.half_width
    # binomial: standard deviation 0.0049
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("values", "confidence"), [([], 0.95), ([1.0, float("nan")], 0.95), ([1.0, 2.0], 1.0)]
)
def test_bad_input_is_refused(values: list[float], confidence: float) -> None:
    with pytest.raises(ValueError, match=r"interval needs|confidence must"):
        t_interval(values, confidence)


def test_paired_difference_by_hand() -> None:
    # differences 1, 1, 2, 0: mean 1, s² = 2/3, t = 1 / sqrt(2/3/4) = 2.449490, p (3 df) = 0.091720
    result = paired_difference([10, 20, 30, 40], [11, 21, 32, 40])
    assert result.interval.mean == 1
    assert result.p_value == pytest.approx(0.0917211, abs=1e-6)
    assert result.correlation == pytest.approx(0.998, abs=0.001)


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(3)
    traffic = rng.normal(100, 20, size=10)
    base, candidate = traffic + rng.normal(0, 1, 10), traffic - 5 + rng.normal(0, 1, 10)
    paired = paired_difference(base.tolist(), candidate.tolist()).interval
    alone = t_interval(candidate.tolist())
    assert paired.half_width is not None
    assert alone.half_width is not None
    assert paired.half_width < alone.half_width / 5
    assert paired.high is not None
    assert paired.high < 0


def test_equal_and_constant_differences() -> None:
    assert paired_difference([1, 2], [1, 2]).p_value == 1
    assert paired_difference([1, 2], [2, 3]).p_value == 0
    assert paired_difference([1], [2]).p_value is None
    with pytest.raises(ValueError, match="equal numbers"):
        paired_difference([1, 2], [1])


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then made monotonic
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_values_and_bonferroni_and_keeps_their_order(p: list[float]) -> None:
    adjusted = holm(p)
    for raw, new in zip(p, adjusted):
        assert raw <= new <= min(1.0, len(p) * raw) + 1e-12 or new == pytest.approx(
            max(min(1.0, (len(p) - i) * q) for i, q in enumerate(sorted(p)) if q <= raw)
        )
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)


def test_holm_holds_the_family_wise_error() -> None:
    rng = np.random.default_rng(11)
    wrong = sum(min(holm(rng.random(8).tolist())) < 0.05 for _ in range(4000))
    # exactly 1 - (1 - 0.05/8)^8 = 0.0489 under independence
    assert wrong / 4000 == pytest.approx(0.0489, abs=0.012)
