import numpy as np
import pytest

from simulator.statistics import batch_means, mser5_warm_up


def mser_by_definition(values: np.ndarray) -> int:
    means = values[: len(values) // 5 * 5].reshape(-1, 5).mean(axis=1)
    errors = [
        ((means[d:] - means[d:].mean()) ** 2).sum() / (len(means) - d) ** 2 for d in range(len(means) - 5)
    ]
    return int(np.argmin(errors)) * 5


def test_mser_finds_a_step() -> None:
    series = np.r_[np.full(50, 100.0), np.tile([1.0, 2.0, 3.0, 2.0, 2.0], 100)]
    assert mser5_warm_up(series.tolist()) == 50


def test_mser_agrees_with_its_definition() -> None:
    rng = np.random.default_rng(5)
    for decay in (10, 40, 90):
        series = 1e6 + 20 * np.exp(-np.arange(700) / decay) + rng.normal(0, 1, 700)
        assert mser5_warm_up(series.tolist()) == mser_by_definition(series)


def test_mser_refuses_a_run_that_never_settles() -> None:
    assert mser5_warm_up(np.arange(200.0).tolist()) is None
    with pytest.raises(ValueError, match="at least 10"):
        mser5_warm_up([1.0] * 9)


def test_a_constant_has_no_warm_up() -> None:
    assert mser5_warm_up([3.0] * 100) == 0


def test_batch_means_by_hand() -> None:
    # batches (1, 3) (5, 7) (9, 11) after one value left out: means 2, 6, 10; s = 4; t(0.975, 2) = 4.302653
    interval = batch_means([99, 1, 3, 5, 7, 9, 11], batches=3)
    assert interval.mean == 6
    assert interval.half_width == pytest.approx(4.302653 * 4 / np.sqrt(3), rel=1e-6)


def test_batch_means_cover_the_mean_of_a_correlated_series() -> None:
    # AR(1), phi = 0.8: a naive interval would cover about 50 % of the time
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        noise = rng.normal(size=2000)
        x = np.empty(2000)
        x[0] = noise[0] / 0.6
        for i in range(1, 2000):
            x[i] = 0.8 * x[i - 1] + noise[i]
        interval = batch_means(x.tolist(), 20)
        assert interval.half_width is not None
        covered += abs(interval.mean) <= interval.half_width
    assert covered / 400 == pytest.approx(0.94, abs=0.035)


def test_batch_means_refuse_too_little() -> None:
    with pytest.raises(ValueError, match="2 batches"):
        batch_means([1.0], 2)
