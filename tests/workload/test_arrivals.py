from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from simulator.draws import Draws
from simulator.scenario.arrivals import Arrivals
from simulator.scenario.errors import ScenarioError
from simulator.units import PS_PER_S, to_ps
from simulator.workload import arrivals as module
from simulator.workload.arrivals import expected_curve, merged_times, processes_of
from simulator.workload.rate_curve import Floats

DAY_S = 86400.0


def parse(spec: dict[str, Any]) -> Arrivals:
    return TypeAdapter(Arrivals).validate_python(spec)


def times_s(spec: dict[str, Any], duration_s: float, seed: int = 1) -> Floats:
    processes = processes_of(parse(spec), to_ps(duration_s), "arrivals")
    chunks = list(merged_times(processes, Draws(seed), "workload/x/arrivals"))
    return np.concatenate(chunks) / PS_PER_S if chunks else np.array([])


def cv(gaps: Floats) -> float:
    return float(np.std(gaps) / np.mean(gaps))


def test_poisson_has_exponential_gaps_of_mean_one_over_rate() -> None:
    times = times_s({"kind": "poisson", "rate": "20/s"}, 5000)
    n = 100_000
    assert len(times) == pytest.approx(n, abs=4 * math.sqrt(n))
    gaps = np.diff(times)
    assert np.mean(gaps) == pytest.approx(0.05, rel=0.015)
    assert cv(gaps) == pytest.approx(1.0, abs=0.015)
    assert np.quantile(gaps, 0.9) == pytest.approx(0.05 * math.log(10), rel=0.02)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_cv_one_over_root_burstiness(burstiness: float) -> None:
    times = times_s({"kind": "gamma", "rate": "50/s", "burstiness": burstiness}, 2000)
    gaps = np.diff(times)
    assert np.mean(gaps) == pytest.approx(0.02, rel=0.03)
    assert cv(gaps) == pytest.approx(1 / math.sqrt(burstiness), rel=0.03)


def test_gamma_of_burstiness_one_is_poisson() -> None:
    gamma = times_s({"kind": "gamma", "rate": "5/s"}, 100)
    assert (gamma == times_s({"kind": "poisson", "rate": "5/s"}, 100)).all()


def test_infinite_burstiness_sends_the_first_request_after_one_gap() -> None:
    assert times_s({"kind": "gamma", "rate": "2/s", "burstiness": math.inf}, 2.5).tolist() == [0.5, 1, 1.5, 2]


def test_rescale_puts_the_last_request_at_exactly_n_over_rate() -> None:
    spec = {"kind": "gamma", "rate": "8/s", "burstiness": 0.3, "num_requests": 10_000}
    free = times_s(spec, 10_000)
    scaled = times_s({**spec, "rescale": True}, 10_000)
    assert len(free) == len(scaled) == 10_000
    assert scaled[-1] == 10_000 / 8
    assert scaled / free == pytest.approx(scaled[-1] / free[-1], rel=1e-6)


def test_constant_is_evenly_spaced_from_zero() -> None:
    assert times_s({"kind": "constant", "rate": "3/s"}, 1).tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert len(times_s({"kind": "constant", "rate": "7/s"}, 3600)) == 7 * 3600


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {
        "kind": "sum",
        "of": [{"kind": "gamma", "rate": 9, "burstiness": 0.5}, {"kind": "poisson", "rate": 5}],
    }
    whole = times_s(spec, 1000)
    monkeypatch.setattr(module, "CHUNK", 8)
    assert (times_s(spec, 1000) == whole).all()


SPIKES = {
    "kind": "spikes",
    "mean_rate": "7/s",
    "peak_factor": 8,
    "ramp": "30s",
    "hold": "60s",
    "every": "20m",
}


def test_spikes_keep_the_mean_and_reach_the_peak() -> None:
    curve = expected_curve(parse(SPIKES), to_ps(7200))
    assert curve is not None
    assert curve.mean_rate == pytest.approx(7.0, rel=1e-12)
    # ramp 30 + hold 60 + decay 30 at every 1200 s: 90 s of full height, 7.5 %
    base = 7.0 * (1 - 8 * 0.075) / (1 - 0.075)
    times = [0.0, 600.0, 615.0, 630.0, 690.0, 720.0, 1800.0 + 40.0]
    assert curve.rate_at(times) == pytest.approx([base, base, (base + 56) / 2, 56, 56, base, 56])
    n = len(times_s(SPIKES, 7200))
    assert n == pytest.approx(50_400, abs=4 * math.sqrt(50_400))


def test_spike_that_the_end_cuts_counts_as_far_as_it_goes() -> None:
    spec = {**SPIKES, "every": None, "times": ["100s", "560s"], "decay": "10s", "peak_factor": 4}
    curve = expected_curve(parse(spec), to_ps(600))
    assert curve is not None
    assert curve.mean_rate == pytest.approx(7.0)
    covered = (15 + 60 + 5 + 15 + 10) / 600
    base = 7 * (1 - 4 * covered) / (1 - covered)
    assert curve.rate_at([0.0, 595.0]) == pytest.approx([base, 28.0])


def test_spikes_that_leave_no_base_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"^workload\.0\.arrivals: .*lower peak_factor"):
        processes_of(parse({**SPIKES, "hold": "150s"}), to_ps(7200), "workload.0.arrivals")
    with pytest.raises(ScenarioError, match="no spike"):
        processes_of(parse({**SPIKES, "first_at": "2h"}), to_ps(7200), "workload.0.arrivals")


def test_spikes_may_leave_a_base_of_exactly_zero() -> None:
    curve = expected_curve(parse({**SPIKES, "hold": "120s"}), to_ps(7200))
    assert curve is not None
    assert curve.rate_at([0.0, 700.0]) == pytest.approx([0.0, 56.0], abs=1e-9)


def test_time_beyond_the_clock_is_refused() -> None:
    for spec in (
        {**SPIKES, "every": None, "times": ["110d"]},
        {"kind": "curve", "points": [{"at": "0s", "rate": 1}, {"at": "120d", "rate": 2}]},
    ):
        with pytest.raises(ScenarioError, match="106 days"):
            processes_of(parse(spec), to_ps(7200), "workload.0.arrivals")


def test_diurnal_peak_trough_and_mean() -> None:
    spec = {"kind": "diurnal", "mean_rate": "1/s", "peak_to_trough": 3, "peak_at": "14h"}
    curve = expected_curve(parse(spec), to_ps(2 * DAY_S))
    assert curve is not None
    peak, trough = curve.rate_at([14 * 3600.0, DAY_S + 2 * 3600.0])
    assert peak / trough == pytest.approx(3.0)
    assert curve.mean_rate == pytest.approx(1.0)
    counts = np.histogram(times_s(spec, 2 * DAY_S), np.arange(0, 2 * DAY_S + 1, 3600))[0]
    assert counts[14] / counts[2] == pytest.approx(3.0, rel=0.15)


def test_weekly_mean_and_days() -> None:
    spec = {"kind": "weekly", "mean_rate": "2/s", "first_day": "sat", "peak_to_trough": 2, "peak_at": "12h"}
    curve = expected_curve(parse(spec), to_ps(7 * DAY_S))
    assert curve is not None
    assert curve.mean_rate == pytest.approx(2.0)
    noons = curve.rate_at((np.arange(7) + 0.5) * DAY_S)
    assert noons / noons[2] == pytest.approx([0.6, 0.6, 1, 1, 1, 1, 1])
    assert curve.rate_at([0.0]) * 2 == pytest.approx(curve.rate_at([12 * 3600.0]) * 0.8 / 0.6)


def test_sum_is_the_sum() -> None:
    spec = {
        "kind": "sum",
        "of": [SPIKES, {"kind": "diurnal", "mean_rate": "5/s", "amplitude": 0.5, "period": "1h"}],
    }
    curve = expected_curve(parse(spec), to_ps(7200))
    assert curve is not None
    assert curve.mean_rate == pytest.approx(12.0)
    assert len(times_s(spec, 7200)) == pytest.approx(86_400, abs=4 * math.sqrt(86_400))


def test_parts_of_a_sum_are_independent() -> None:
    poisson = {"kind": "poisson", "rate": "3/s"}
    times = times_s({"kind": "sum", "of": [poisson, poisson]}, 1000)
    assert len(np.unique(times)) == len(times)


def test_nonhomogeneous_counts_are_poisson() -> None:
    """Counts of disjoint windows of Λ-length 10 have variance/mean 1."""
    points = [{"at": "0s", "rate": 0}, {"at": "500s", "rate": "40/s"}]
    times = times_s({"kind": "curve", "points": points}, 500)
    clock = 0.04 * times**2  # Λ(t) = ∫ 0.08 t
    counts = np.histogram(clock, np.arange(0, 10_001, 10))[0]
    assert np.mean(counts) == pytest.approx(10.0, abs=0.4)
    assert np.var(counts) / np.mean(counts) == pytest.approx(1.0, abs=0.2)


def test_num_requests_ends_the_expected_rate() -> None:
    curve = expected_curve(parse({"kind": "gamma", "rate": "10/s", "num_requests": 50}), to_ps(20))
    assert curve is not None
    assert curve.rate_at([4.9, 5.1]).tolist() == [10.0, 0.0]
