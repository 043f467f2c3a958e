from pathlib import Path

from calibration.capture_format import read_capture
from calibration.captured_steps import steps_of
from simulator.step_time import ProfileStepTime
from simulator.units import PS_PER_US
from tests.calibration.synthetic import SyntheticCapture, truth


def _capture(tmp_path: Path, *, async_scheduling: bool) -> Path:
    capture = SyntheticCapture()
    capture.engine(async_scheduling=async_scheduling)
    capture.stage("s", "column")
    capture.together([(40, 4, 0), (700, 3, 0)])
    capture.together([(40, 2, 0)])
    return capture.write(tmp_path)


def test_synchronous_steps_by_regime_and_time(tmp_path: Path) -> None:
    steps = steps_of([read_capture(_capture(tmp_path, async_scheduling=False))])
    # 512 tokens a step: the first prompt and the beginning of the second, the rest of it beside a decode.
    assert [(s.regime, s.decodes, s.decode_context, s.prefills) for s in steps] == [
        ("pure_prefill", 0, 0, ((40, 0), (472, 0))),
        ("mixed", 1, 40, ((228, 472),)),
        ("pure_decode", 2, 741, ()),
        ("pure_decode", 2, 743, ()),
        ("pure_prefill", 0, 0, ((40, 0),)),
        ("pure_decode", 1, 40, ()),
    ]
    model = ProfileStepTime(truth(), max_num_seqs=64)
    expected = model.step_ps(0, 0, ((40, 0), (472, 0))) / PS_PER_US + 100
    assert steps[0].step_us is not None
    assert abs(steps[0].step_us - expected) < 2
    # 400 us + 5 a request, 100 of them within the step; idle after the last step of a request.
    assert [s.host_us is None for s in steps] == [False, False, False, True, False, True]
    assert steps[0].host_us is not None
    assert abs(steps[0].host_us - 310) < 3
    assert steps[2].is_heterogeneous
    assert not steps[5].is_heterogeneous


def test_asynchronous_steps_are_from_output_to_output_while_two_are_in_flight(tmp_path: Path) -> None:
    steps = steps_of([read_capture(_capture(tmp_path, async_scheduling=True))])
    assert steps[0].step_us is None
    model = ProfileStepTime(truth(), max_num_seqs=64)
    expected = model.step_ps(1, 40, ((228, 472),)) / PS_PER_US
    assert steps[1].step_us is not None
    assert abs(steps[1].step_us - expected) < 2
    assert all(step.host_us is None for step in steps)
