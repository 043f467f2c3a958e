from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.plan import (
    ChunksStage,
    ColumnStage,
    HeterogeneousStage,
    LoadStage,
    MixedStage,
    MultiStage,
    Stage,
    WarmupStage,
)
from calibration.tasks import Beside, Burst, Group, Limits, OpenLoad, Send, expand, spread_contexts

LIMITS = Limits(
    usable_blocks=100, block_size=16, max_model_len=512, max_num_batched_tokens=256, max_num_seqs=8
)


def groups(stage: Stage, limits: Limits = LIMITS) -> list[Group]:
    return expand(stage, limits, Path())


def column(**changes: Any) -> ColumnStage:
    return ColumnStage.model_validate(
        {"name": "d", "kind": "column", "contexts": [64], "batches": [4, 2, 1], "steps": 3} | changes
    )


def test_a_column_walks_down_the_batches() -> None:
    ((fill, task),) = groups(column())
    assert (fill.name, fill.purpose) == ("d_c64_fill", "fill")
    assert fill.actions == (Burst(tuple(Send(64, 1, ((number + 1, 64),)) for number in range(4))),)
    assert (task.name, task.purpose) == ("d_c64", "calibration")
    (burst,) = task.actions
    assert isinstance(burst, Burst)
    # The prompt's step gives the first token; then 3 steps with 4, 3 with 2, 3 with 1.
    assert [send.output_tokens for send in burst.sends] == [10, 7, 4, 4]
    assert [send.segments for send in burst.sends] == [send.segments for send in fill.actions[0].sends]  # type: ignore[union-attr]


def test_a_column_leaves_out_what_does_not_fit() -> None:
    # A batch of 16 is above max_num_seqs. 8 × 12 blocks of 16 tokens hold 192: contexts up to 64 + 3 × 2 fit.
    assert groups(column(batches=[16, 8, 1]))[0][1].plan["task"]["batches"] == [8, 1]
    # At 187 + 3 + 1 = 191 tokens a request needs 12 blocks, 8 of them 96; one token more is 12 × 16 = 192.
    assert groups(column(contexts=[188], batches=[8]))[0][1].plan["task"]["batches"] == [8]
    # 193 tokens take 13 blocks, and 8 × 13 = 104 of 100.
    assert groups(column(contexts=[189], batches=[8])) == []
    assert groups(column(contexts=[600])) == []


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True), st.integers(1, 300), st.integers(1, 20)
)
def test_a_column_never_needs_more_than_there_is(batches: list[int], context: int, steps: int) -> None:
    for _, task in groups(column(batches=batches, contexts=[context], steps=steps)):
        (burst,) = task.actions
        assert isinstance(burst, Burst)
        outputs = [send.output_tokens for send in burst.sends]
        for step in range(max(outputs)):
            live = [n for n in outputs if n > step]
            assert len(live) * LIMITS.blocks(context + step + 1) <= LIMITS.usable_blocks
        assert context + max(outputs) <= LIMITS.max_model_len
        sizes = {sum(n > step for n in outputs) for step in range(1, max(outputs))}
        assert sizes == set(task.plan["task"]["batches"])


def test_chunks() -> None:
    stage = ChunksStage.model_validate(
        {"name": "c", "kind": "chunks", "contexts": [0, 128], "sizes": [16, 256, 300], "repeats": 2}
    )
    (alone,), (fill, behind) = groups(stage)
    # 300 is above the budget of a step.
    assert alone.actions == (Burst((Send(16, 1),)), Burst((Send(256, 1),))) * 2
    assert fill.actions == (Burst((Send(129, 1, ((1, 129),)),)),)
    assert behind.actions[0] == Burst((Send(144, 1, ((1, 128),)),))
    assert behind.plan["task"] == {"context": 128, "sizes": [16, 256]}


def test_multi() -> None:
    stage = MultiStage.model_validate(
        {"name": "m", "kind": "multi", "prompts": [[2, 64], [4, 100], [9, 2]], "repeats": 1}
    )
    ((task,),) = groups(stage)
    # 400 tokens are above the budget, 9 prompts above the batch.
    assert task.actions == (Burst((Send(64, 1), Send(64, 1))),)


def test_mixed() -> None:
    stage = MixedStage.model_validate(
        {"name": "x", "kind": "mixed", "decodes": [4, 8], "context": 32, "sizes": [16, 256], "repeats": 1}
    )
    ((fill, task),) = groups(stage)  # 8 decodes leave no place for a chunk
    (beside,) = task.actions
    assert isinstance(beside, Beside)
    # The chunk takes what 4 decodes leave of the 256 tokens.
    assert [send.prompt_tokens for send in beside.chunks] == [16, 252]
    # The chunks need 16 blocks; of the other 84 each decode has 21, 336 tokens.
    assert [send.output_tokens for send in beside.decodes] == [336 - 32] * 4
    assert fill.plan["task"]["contexts"] == [32, 32, 32, 32]


@pytest.mark.parametrize(
    ("spread", "contexts"),
    [
        ("equal", [100, 100, 100, 100]),
        ("even", [25, 75, 125, 175]),
        ("halves", [175, 25, 175, 25]),
        ("one_long", [300, 33, 33, 33]),
    ],
)
def test_spreads_keep_the_mean(spread: Any, contexts: list[int]) -> None:
    assert spread_contexts(spread, 4, 100, 400) == contexts


def test_heterogeneous() -> None:
    stage = HeterogeneousStage.model_validate(
        {"name": "h", "kind": "heterogeneous", "mean_context": 64, "batches": [4, 2], "steps": 5}
    )
    names = [group[1].name for group in groups(stage)]
    assert names[:4] == ["h_equal_n4", "h_even_n4", "h_halves_n4", "h_one_long_n4"]
    assert len(names) == 8


def test_warmup_fits_into_a_small_engine() -> None:
    stage = WarmupStage.model_validate({"name": "w", "kind": "warmup"})
    ((task,),) = groups(stage, replace(LIMITS, usable_blocks=10))
    sends = [send for action in task.actions if isinstance(action, Burst) for send in action.sends]
    assert max(send.prompt_tokens + send.output_tokens for send in sends) <= 160


def load(**changes: Any) -> LoadStage:
    return LoadStage.model_validate(
        {
            "name": "l",
            "kind": "load",
            "regime": "prefix",
            "duration": "1s",
            "workload": [
                {
                    "name": "chat",
                    "arrivals": {"kind": "constant", "rate": 4},
                    "lengths": {"kind": "fixed", "input": 20, "output": 5},
                    "sessions": {"system_prompt_tokens": 48},
                }
            ],
        }
        | changes
    )


def test_a_load_and_its_repeat() -> None:
    (first,), (second,) = groups(load(repeats=2))
    assert (first.name, first.repeat_of, first.purpose, first.regime) == ("l", None, "validation", "prefix")
    assert (second.name, second.repeat_of) == ("l_r2", "l")
    (one,), (two,) = first.actions, second.actions
    assert isinstance(one, OpenLoad)
    assert isinstance(two, OpenLoad)
    assert [at for at, _ in one.arrivals] == [at for at, _ in two.arrivals] == [0, 250_000, 500_000, 750_000]
    prefixes = {send.segments[0] for _, send in one.arrivals}
    assert [end for _, end in prefixes] == [48]
    # The repeat must not find the first one's prefixes in the cache.
    assert prefixes.isdisjoint(send.segments[0] for _, send in two.arrivals)
    assert {(send.prompt_tokens, send.output_tokens) for _, send in one.arrivals} == {(68, 5)}


def test_a_load_is_cut_to_what_the_engine_takes() -> None:
    ((task,),) = groups(load(), replace(LIMITS, max_model_len=40))
    (action,) = task.actions
    assert isinstance(action, OpenLoad)
    assert {(send.prompt_tokens, send.output_tokens) for _, send in action.arrivals} == {(35, 5)}
    assert all(end <= 35 for _, send in action.arrivals for _, end in send.segments)


def test_a_trace(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,input_tokens,output_tokens\n0.5,10,3\n0.75,12,1\n")
    stage = load(workload=[{"name": "t", "arrivals": {"kind": "trace", "file": "t.csv"}}])
    ((task,),) = expand(stage, LIMITS, tmp_path)
    (action,) = task.actions
    assert isinstance(action, OpenLoad)
    assert [(at, send.prompt_tokens, send.output_tokens) for at, send in action.arrivals] == [
        (500_000, 10, 3),
        (750_000, 12, 1),
    ]
