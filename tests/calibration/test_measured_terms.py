import numpy as np
import pytest

from calibration.measured_terms import HeldOut, decode_us, mixed_us, prefill_us
from simulator.step_time import ProfileStepTime, shipped_profiles

PROFILE = shipped_profiles()["rtxpro6000--llama-3.1-8b--bf16--tp1"]


def test_held_out_errors_by_hand() -> None:
    held_out = HeldOut()
    held_out.add("mixed", np.array([110.0]), np.array([100.0]), "x")
    held_out.add("mixed", np.array([95.0]), np.array([100.0]), "x")
    assert held_out.relative("mixed") == pytest.approx([0.1, -0.05])
    assert (held_out.errors()[0].mean_abs_pct, held_out.errors()[0].rows) == (7.5, 2)


@pytest.mark.parametrize(("requests", "chunk", "context"), [(1, 16, 0), (5, 300, 4000), (48, 2048, 250_000)])
def test_terms_are_evaluated_as_the_simulator_does(requests: int, chunk: int, context: int) -> None:
    terms = PROFILE.terms
    level = PROFILE.model_copy(
        update={
            "terms": terms.model_copy(
                update={"decode_attention": terms.decode_attention.model_copy(update={"heterogeneity": 1.0})}
            )
        }
    )
    step_time = ProfileStepTime(level)
    n, c, total = np.array([requests]), np.array([chunk]), np.array([float(context)])
    with_decodes = step_time.step_ps(requests, context, [(chunk, 64)])
    same_tokens = step_time.step_ps(0, 0, [(chunk, 64)])
    rest = (
        step_time._dense_ps[chunk + requests]
        - step_time._dense_ps[chunk]
        + step_time._sequence_ps[requests + 1]
        - step_time._sequence_ps[1]
    )
    ours = mixed_us(level.terms.mixed_attention, n, c, total)[0]
    assert (with_decodes - same_tokens - rest) / 1e6 == pytest.approx(ours, rel=1e-4, abs=1e-3)
    assert (
        step_time.step_ps(requests, context, ()) - step_time.step_ps(requests, 0, ())
    ) / 1e6 == pytest.approx(
        decode_us(terms.decode_attention, n, total)[0] - decode_us(terms.decode_attention, n, 0 * total)[0],
        rel=1e-4,
    )
    behind = step_time.step_ps(0, 0, [(chunk, 1000)]) - step_time.step_ps(0, 0, [(chunk, 0)])
    prefill = terms.prefill_attention
    assert behind / 1e6 == pytest.approx(
        prefill_us(prefill, c, np.array([1000.0]))[0] - prefill_us(prefill, c, np.array([0.0]))[0], rel=1e-4
    )
