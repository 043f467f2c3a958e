from statistics import median

from simulator.step_time import shipped_profiles
from simulator.step_time.validated import typical_tpot_error, validated_errors


def test_runs_and_points_that_were_validated_are_found_by_the_profiles_name() -> None:
    run = validated_errors("rtxpro6000--llama-3.1-8b--bf16--tp1")
    assert {entry.regime for entry in run} == {"all", "unqueued", "light", "knee", "overload"}
    assert {entry.unit for entry in run} == {"requests"}
    points = validated_errors("h100-sxm--llama-3.1-70b--fp8--tp2")
    assert [(entry.regime, entry.unit, entry.e2e_pct) for entry in points] == [("all", "points", None)]
    assert validated_errors("nobody's") == ()


def test_another_profile_made_alike_stands_in() -> None:
    own = typical_tpot_error("h100-sxm--llama-3.1-70b--fp8--tp2", "composed from kernels")
    assert own is not None
    assert own[1] == "its validated TPOT error"
    alike = typical_tpot_error("nobody's", "composed from kernels")
    assert alike is not None
    known = [e for name in shipped_profiles() for e in validated_errors(name) if e.regime == "all"]
    known = [e for e in known if e.source == "composed from kernels"]
    assert alike[0] == median(e.tpot_pct for e in known if e.tpot_pct is not None) / 100
    assert f"{len(known)} validated cases" in alike[1]
    # A CPU's error is its own, and stands in for no GPU's.
    assert typical_tpot_error("cpu--tiny-llama--bf16--tp1--fitted", "fitted profile") is not None
    assert typical_tpot_error("nobody's", "fitted profile") is None
