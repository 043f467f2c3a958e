import numpy as np
import pytest

from simulator.draws import Draws
from simulator.step_time import ProfileError, ProfileStepTime, perturbed, shipped_profiles
from simulator.step_time.perturb import draw_factors, uncertainty_of
from simulator.step_time.profile import StepTimeProfile, Uncertainty
from simulator.step_time.validated import validated_errors

DECODE_SD = 0.03
COVARIANCE = [
    [0.02**2, -0.8 * 0.02 * DECODE_SD, 0.0],
    [-0.8 * 0.02 * DECODE_SD, DECODE_SD**2, 0.0],
    [0, 0, 0.1**2],
]


def _profile(common: float = 0.0) -> StepTimeProfile:
    stated = Uncertainty(
        groups=["dense", "decode_attention", "host"],
        covariance=COVARIANCE,
        common_relative_error=common,
        source="made up",
    )
    base = shipped_profiles()["rtx4090--llama-3.1-8b--bf16--tp1"]
    return base.model_copy(update={"uncertainty": stated, "schema_version": 2})


def test_factors_have_the_stated_covariance() -> None:
    profile, draws = _profile(), Draws(1)
    drawn = [draw_factors(profile, draws, k) for k in range(4000)]
    factors = np.array([[d["dense"], d["decode_attention"], d["host"]] for d in drawn])
    assert factors.min() > 0
    assert np.cov(factors, rowvar=False) == pytest.approx(np.array(COVARIANCE), rel=0.1, abs=5e-5)
    assert {d["mixed_attention"] for d in drawn} == {1.0}


def test_the_common_factor_moves_every_gpu_term_and_not_the_host() -> None:
    factors = draw_factors(_profile(common=0.5), Draws(1), 0)
    without = draw_factors(_profile(), Draws(1), 0)
    ratios = {group: factors[group] / without[group] for group in factors}
    assert ratios.pop("host") == 1.0
    assert len({round(ratio, 9) for ratio in ratios.values()}) == 1
    assert ratios["dense"] != 1.0


def test_a_draw_scales_the_terms_and_nothing_else() -> None:
    profile = _profile()
    drawn = perturbed(profile, Draws(3), 7)
    factors = draw_factors(profile, Draws(3), 7)
    assert drawn.terms.dense.us == pytest.approx([factors["dense"] * us for us in profile.terms.dense.us])
    assert drawn.host.base_us == pytest.approx(factors["host"] * profile.host.base_us)
    assert drawn.terms.mixed_attention == profile.terms.mixed_attention
    assert drawn.identity == profile.identity
    assert drawn.name.endswith("draw 7")
    assert ProfileStepTime(drawn).step_ps(8, 1000, []) > 0


def test_the_same_draw_is_the_same_profile() -> None:
    profile = _profile(common=0.01)
    assert perturbed(profile, Draws(3), 7) == perturbed(profile, Draws(3), 7)
    assert perturbed(profile, Draws(3), 7).terms != perturbed(profile, Draws(3), 8).terms


def test_a_composed_profile_has_the_errors_of_its_regimes_and_of_its_runs() -> None:
    profile = shipped_profiles()["rtx4090--llama-3.1-8b--bf16--tp1"]
    derived = uncertainty_of(profile)
    sd_per_mean = np.sqrt(np.pi / 2)
    decode = next(fit for fit in profile.fit_error if fit.regime == "pure_decode")
    at = derived.groups.index("decode_attention")
    assert derived.covariance[at][at] == pytest.approx((sd_per_mean * decode.mean_abs_pct / 100) ** 2)
    run = next(entry for entry in validated_errors(profile.name) if entry.regime == "all")
    assert run.tpot_pct is not None
    assert derived.common_relative_error == pytest.approx(sd_per_mean * run.tpot_pct / 100)
    assert perturbed(profile, Draws(1), 0).terms != profile.terms


def test_a_profile_that_nothing_like_it_was_validated_for_says_so() -> None:
    profile = shipped_profiles()["rtx4090--llama-3.1-8b--bf16--tp1"]
    profile = profile.model_copy(update={"name": "mine", "source": "fitted profile"})
    with pytest.raises(ProfileError, match="mine: states no uncertainty, and none like it was validated"):
        perturbed(profile, Draws(1), 0)
