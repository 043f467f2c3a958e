"""A captured load as it is replayed: the engine's own settings, the requests at the times at which they were sent."""

from pathlib import Path

import pytest

from calibration.capture_format import CaptureError, read_capture
from simulator.step_time import shipped_profiles
from tests.calibration.synthetic import SyntheticCapture, load_of, truth
from validation.captured_load import captured_replica, load_rows, measured, recorded_requests
from validation.single_replica import replay


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    capture = SyntheticCapture()
    capture.engine(num_gpu_blocks=3000)
    capture.stage("light", "load", "validation", regime="light")
    capture.load(*load_of(12))
    return capture.write(tmp_path_factory.mktemp("load"))


def test_the_replica_is_the_captured_engine(folder: Path) -> None:
    capture = read_capture(folder)
    replica = captured_replica(capture, 0, truth())
    assert replica.engine.num_gpu_blocks == 3000
    assert not replica.engine.async_scheduling
    assert replica.frontend_in_ps == 300_000_000
    assert replica.frontend_in_ps_per_token == 500_000
    assert replica.frontend_out_ps == 200_000_000
    # The capture's CUDA graphs: 33 requests pay for 40.
    times = replica.step_time.step_time
    assert times.step_ps(33, 0, []) - times.step_ps(40, 0, []) == pytest.approx(-7 * 5_000_000)


def test_step_times_are_the_best_that_there_are(folder: Path) -> None:
    capture = read_capture(folder)
    assert captured_replica(capture, 0).step_time.source == "roofline"  # no profile ships of a made-up shape
    capture.manifest.gpu = "CPU"
    with pytest.raises(CaptureError, match="engine sync: CPU is not a GPU"):
        captured_replica(capture, 0)
    fitted = shipped_profiles()["cpu--tiny-llama--bf16--tp1--fitted"]
    capture.manifest.engines[0].shape = fitted.identity.shape
    assert captured_replica(capture, 0).step_time.profile is fitted
    capture.manifest.engines[0].pp = 2
    with pytest.raises(CaptureError, match="pipeline-parallel size 2 is not modelled"):
        captured_replica(capture, 0)


def test_requests_are_sent_when_the_client_sent_them(folder: Path) -> None:
    rows = load_rows(read_capture(folder), 0)
    rows.loc[3, "status"] = "cut"
    rows.loc[4, "priority"] = 7
    requests, times = recorded_requests(rows), measured(rows)
    assert requests[0].arrival_s == 0
    assert [request.arrival_s for request in requests] == pytest.approx(times["arrival_s"].tolist())
    assert [request.priority for request in requests] == [0, 0, 0, 0, 7, *[0] * 7]
    assert requests[3].output_tokens == rows["output_tokens"][3]
    assert times.loc[3].isna().tolist() == [False, True, True, True, True, True]
    assert times["e2e_ms"].notna().sum() == 11
    replayed = replay(captured_replica(read_capture(folder), 0, truth()), requests)
    assert set(replayed.requests["outcome"]) == {"completed"}
