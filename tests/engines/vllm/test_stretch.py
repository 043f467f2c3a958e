"""The closed forms against the sums that they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.engines.vllm.stretch import StepSeries

series = st.builds(
    StepSeries, st.integers(1, 10**6), st.integers(0, 1000), st.integers(0, 2 * 10**6), st.booleans()
)


def durations(of: StepSeries, steps: int) -> list[int]:
    gpu = [of.gpu_ps + k * of.rise_ps for k in range(steps)]
    return [max(g, of.host_ps) if of.overlapped else g + of.host_ps for g in gpu]


@given(series, st.integers(1, 300))
def test_sums(of: StepSeries, steps: int) -> None:
    assert of.total_ps(steps) == sum(durations(of, steps))
    assert of.gpu_total_ps(steps) == sum(of.gpu_ps + k * of.rise_ps for k in range(steps))
    assert [of.step_ps(k + 1) for k in range(steps)] == durations(of, steps)


@given(series, st.integers(1, 100), st.integers(-1, 1))
def test_the_fewest_steps_that_take_so_long(of: StepSeries, steps: int, off: int) -> None:
    duration = of.total_ps(steps) + off
    found = of.steps_to_reach(duration)
    assert of.total_ps(found) >= duration
    assert found == 0 or of.total_ps(found - 1) < duration


@given(series, st.integers(0, 50), st.integers(1, 50))
def test_without_the_first_steps(of: StepSeries, skipped: int, steps: int) -> None:
    assert of.after(skipped).total_ps(steps) == of.total_ps(skipped + steps) - of.total_ps(skipped)
