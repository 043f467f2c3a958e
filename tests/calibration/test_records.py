"""The committed capture of a CPU: the shipped profile is its fit, and its decisions are ours."""

from pathlib import Path

import numpy as np
import pytest

import calibration
from calibration.capture_format import Capture, read_capture
from calibration.capture_set import read_capture_set
from calibration.fit import Fit, fit_profile
from calibration.load_comparison import compare_loads, repeat_noise
from simulator.step_time import shipped_profiles
from validation.real_trace import differing_steps, traces_of

FOLDER = Path(calibration.__file__).parent / "records" / "cpu-tiny"


@pytest.fixture(scope="module")
def capture() -> Capture:
    return read_capture(FOLDER)


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fit_profile(read_capture_set([FOLDER]))


def test_the_shipped_cpu_profile_is_the_fit_of_the_record(fit: Fit) -> None:
    shipped = shipped_profiles()[fit.profile.name]
    assert shipped.identity == fit.profile.identity
    assert shipped.identity.gpu == "CPU"
    assert shipped.provenance == fit.profile.provenance
    for part, key in (
        ("dense", "us"),
        ("decode_attention", "per_context_token_ns"),
        ("prefill_attention", "base_us"),
    ):
        # Another linear algebra library may round otherwise.
        ours, theirs = (
            getattr(getattr(fit.profile.terms, part), key),
            getattr(getattr(shipped.terms, part), key),
        )
        assert np.array(ours) == pytest.approx(np.array(theirs), rel=1e-3)
    for ours, theirs in zip(fit.profile.fit_error, shipped.fit_error, strict=True):
        assert ours.rows == theirs.rows
        assert ours.median_abs_pct == pytest.approx(theirs.median_abs_pct, abs=0.05)


def test_every_decision_of_the_real_engine_is_ours(capture: Capture) -> None:
    traces = list(traces_of(capture))
    assert len(traces) == 2
    assert sum(len(trace.steps) for trace in traces) > 10_000
    assert sum(trace.num_preemptions for trace in traces) > 0
    assert [differing_steps(trace) for trace in traces] == [[], []]


def test_loads_are_predicted_about_as_well_as_the_machine_repeats_itself(capture: Capture, fit: Fit) -> None:
    runs = compare_loads(capture, fit.profile)
    assert {run.load for run in runs} >= {"light", "knee", "overload", "starved", "prefix", "long"}
    noise = repeat_noise(runs, "TPOT", "p50")["knee"]
    knee = [run for run in runs if run.load == "knee"]
    assert np.mean([abs(run.error("TPOT", "p50")) for run in knee]) < 2 * noise
