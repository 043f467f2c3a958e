from pathlib import Path

import pandas as pd
import pytest

from calibration.compose import compose
from calibration.llmservingsim_tables import _left_out
from calibration.operator_tables import OperatorTables, TablesError
from simulator.catalog import find_gpu, find_model
from simulator.step_time import ProfileStepTime


def test_whole_rows_and_columns_are_left_out() -> None:
    rows = pd.DataFrame([{"n": n, "kv": kv} for n in (1, 2, 4, 8) for kv in (16, 32, 64, 128)])
    pairs = _left_out(rows, "n", "kv")
    assert [sorted(set(out.n)) for out, _ in pairs] == [[2], [4]]
    for out, kept in pairs:
        assert set(out.kv) == {32, 128}
        assert set(kept.kv) == {16, 64}
        assert set(out.n).isdisjoint(kept.n)


def test_experts_are_part_of_a_step(operator_tables: Path) -> None:
    profile = compose(
        operator_tables, find_gpu("RTXPRO6000"), find_model("Qwen/Qwen3-30B-A3B-Instruct-2507"), 1
    )
    # Reading the eight experts of one token takes 42 us a layer at the memory's bandwidth.
    weights_us = 48 * 8 * 3 * 2048 * 768 * 2 / 1792e9 * 1e6
    assert profile.terms.dense.us[0] > weights_us
    assert any("experts" in text for text in profile.assumptions)
    one, many = (ProfileStepTime(profile).step_ps(n, n * 100, ()) for n in (1, 64))
    assert many > 4 * one  # nearly all 128 experts are visited


def test_two_gpus_need_their_all_reduce(operator_tables: Path, package_tables: OperatorTables) -> None:
    gpu, model = find_gpu("RTXPRO6000"), find_model("Qwen/Qwen3-32B")
    one, two = (ProfileStepTime(compose(operator_tables, gpu, model, tp)) for tp in (1, 2))
    assert 0.5 * one.step_ps(1, 100, ()) < two.step_ps(1, 100, ()) < 0.75 * one.step_ps(1, 100, ())


def test_a_degree_that_was_not_measured_is_an_error(operator_tables: Path) -> None:
    with pytest.raises(TablesError, match="no tables of tp 4; there are: tp1, tp2"):
        compose(operator_tables, find_gpu("RTXPRO6000"), find_model("Qwen/Qwen3-32B"), 4)
    with pytest.raises(TablesError, match="of bfloat16 weights and KV cache only"):
        compose(operator_tables, find_gpu("RTXPRO6000"), find_model("Qwen/Qwen3-32B"), 1, "fp8")
