from pathlib import Path

import pytest

from calibration.capture_format import CaptureError, read_capture
from calibration.load_comparison import compare_loads, repeat_noise
from simulator.step_time import StepTimeProfile
from tests.calibration.synthetic import SyntheticCapture, load_of, truth


def _even() -> StepTimeProfile:
    """Without the factor for differing contexts, which a capture has for some steps and a simulation for all."""
    terms = truth().terms
    decode = terms.decode_attention.model_copy(update={"heterogeneity": 1.0})
    return truth(terms=terms.model_copy(update={"decode_attention": decode}).model_dump())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    capture = SyntheticCapture(profile=_even())
    capture.engine()
    for name, repeat_of in (("knee", None), ("knee_r2", "knee")):
        capture.stage(name, "load", "validation", regime="knee", repeat_of=repeat_of)
        capture.load(*load_of(30))
    return capture.write(tmp_path_factory.mktemp("loads"))


def test_the_profile_that_made_a_load_reproduces_it(folder: Path) -> None:
    runs = compare_loads(read_capture(folder), _even())
    assert [(run.stage.name, run.load, run.requests) for run in runs] == [
        ("knee", "knee", 30),
        ("knee_r2", "knee", 30),
    ]
    for run in runs:
        # Captured times are whole microseconds.
        for metric in ("ttft_ms", "e2e_ms"):
            assert run.simulated[metric].to_numpy(float) == pytest.approx(
                run.measured[metric].to_numpy(), abs=0.05
            )
        assert run.out_of_range == 0
        assert abs(run.error("TPOT", "mean")) < 0.001


def test_a_profile_twice_as_slow_shows(folder: Path) -> None:
    even = _even()
    slow = even.model_copy(
        update={
            "terms": even.terms.model_copy(
                update={
                    "dense": even.terms.dense.model_copy(
                        update={"us": [2 * us for us in even.terms.dense.us]}
                    )
                }
            )
        }
    )
    for run in compare_loads(read_capture(folder), slow):
        assert run.error("TPOT", "p50") > 0.5


def test_repeats_tell_the_noise(folder: Path) -> None:
    runs = compare_loads(read_capture(folder), _even())
    assert repeat_noise(runs, "TPOT", "mean")["knee"] == pytest.approx(0.0, abs=0.001)
    runs[1].measured["e2e_ms"] = runs[0].measured["e2e_ms"] * 1.5
    # (1.5 - 1) over the mean of the two.
    assert repeat_noise(runs, "E2E", "mean") == {"knee": pytest.approx(0.4)}


def test_a_request_that_our_engine_refuses_is_told(folder: Path) -> None:
    capture = read_capture(folder)
    capture.manifest.engines[0].max_model_len = 100
    with pytest.raises(CaptureError, match=r"stage knee: request .*: the simulated engine refuses it"):
        compare_loads(capture, _even())
