from __future__ import annotations

import numpy as np
import pytest

from calibration.workload_models import fit_lengths, fit_rate


def test_rate_and_burstiness_of_a_gamma_process_are_found() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(np.concatenate((rng.gamma(0.25, 4 / 5, 20_000), rng.gamma(0.25, 4 / 20, 20_000))))
    fit = fit_rate(times - times[0], 400.0)
    assert fit["burstiness"] == pytest.approx(0.25, rel=0.05)
    assert fit["mean_per_s"] == pytest.approx(40_000 / 5000, rel=0.03)
    relative = np.array(fit["relative"])
    assert relative[:9].mean() == pytest.approx(5 / fit["mean_per_s"], rel=0.05)
    # 600 s of the faster half: 12,000 gaps of CV 2, so a standard error of 2 %
    assert relative[11:].mean() == pytest.approx(20 / fit["mean_per_s"], rel=0.08)


def test_lengths_keep_the_dependence() -> None:
    rng = np.random.default_rng(2)
    inputs = rng.uniform(0, 800, 80_000)
    outputs = 10 * np.floor(inputs / 100) + rng.uniform(0, 1, 80_000)
    fit = fit_lengths(inputs, outputs)
    assert fit["input_tokens"][0] == pytest.approx(0, abs=1)
    assert np.interp(0.5, fit["input_levels"], fit["input_tokens"]) == pytest.approx(400, rel=0.02)
    medians = [np.interp(0.5, fit["output_levels"], row) for row in fit["output_tokens"]]
    assert medians == pytest.approx([10 * j + 0.5 for j in range(8)], abs=0.5)
