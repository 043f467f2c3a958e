from pathlib import Path

import pytest
import yaml

from calibration.plan import PLANS, ColumnStage, LoadStage, load_plan
from simulator.scenario.errors import ScenarioError

SHAPE = {
    "hidden": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "intermediate": 128,
    "vocab": 1000,
    "max_position_embeddings": 2048,
}
LOAD = {
    "name": "knee",
    "kind": "load",
    "regime": "knee",
    "duration": "2s",
    "workload": [
        {
            "name": "chat",
            "arrivals": {"kind": "constant", "rate": 10},
            "lengths": {"kind": "fixed", "input": 20, "output": 5},
        }
    ],
}


def write(folder: Path, **changes: object) -> Path:
    plan = {
        "name": "p",
        "model": {"name": "tiny", "shape": SHAPE},
        "engines": [
            {"name": "sync", "vllm": {"block_size": 32}, "stages": [{"name": "warmup", "kind": "warmup"}]}
        ],
    } | changes
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def stages(*given: dict[str, object]) -> list[dict[str, object]]:
    return [{"name": "sync", "stages": list(given)}]


def test_a_made_up_shape(tmp_path: Path) -> None:
    loaded = load_plan(write(tmp_path))
    assert loaded.model.name == "tiny"
    assert loaded.model.shape.head_dim == 16


def test_a_model_of_the_catalog(tmp_path: Path) -> None:
    loaded = load_plan(write(tmp_path, model={"name": "Qwen/Qwen3-14B"}))
    assert loaded.model.shape.layers == 40


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_plans(path: Path) -> None:
    plan = load_plan(Path(path.stem)).plan
    assert plan.name == path.stem
    assert any(isinstance(stage, LoadStage) for engine in plan.engines for stage in engine.stages)


def test_batches_fall(tmp_path: Path) -> None:
    stage = {"name": "d", "kind": "column", "contexts": [8], "batches": [1, 4, 2], "steps": 3}
    column = load_plan(write(tmp_path, engines=stages(stage))).plan.engines[0].stages[0]
    assert isinstance(column, ColumnStage)
    assert column.batches == [4, 2, 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"modle": 1}, r"plan.yaml:\d+: modle: unknown key; did you mean model"),
        ({"model": {"name": "no-such-model"}}, r"plan.yaml:\d+: model: .*no-such-model"),
        (
            {"model": {"name": "t", "shape": SHAPE, "weights": "real"}},
            "model: a made-up shape has no real weights",
        ),
        ({"model": {"name": "t", "shape": SHAPE, "config": "c.json"}}, "give either shape or config"),
        ({"engines": []}, "engines: expected at least 1"),
        (
            {"engines": [{"name": "e", "vllm": {"model": "x"}, "stages": [{"name": "w", "kind": "warmup"}]}]},
            "vllm.model: belongs to the plan's model",
        ),
        (
            {
                "engines": [
                    {"name": "e", "vllm": {"block-size": 1}, "stages": [{"name": "w", "kind": "warmup"}]}
                ]
            },
            "vllm.block-size: write it with underscores: block_size",
        ),
        (
            {"engines": stages({"name": "w", "kind": "warmpu"})},
            r"kind: expected one of .*did you mean warmup",
        ),
        (
            {"engines": stages({"name": "w", "kind": "warmup"}, {"name": "w", "kind": "warmup"})},
            "two stages are named 'w'",
        ),
        (
            {
                "engines": stages(
                    {"name": "d", "kind": "column", "contexts": [8], "batches": [2, 2], "steps": 1}
                )
            },
            "batches: a batch size is given twice",
        ),
        (
            {"engines": stages({**LOAD, "workload": [{"name": "c", "arrivals": {"kind": "trace"}}]})},
            r"workload.0.arrivals.file: this key is required",
        ),
        (
            {
                "engines": stages(
                    {**LOAD, "workload": [{**LOAD["workload"][0], "sessions": {"turns": 3}}]}  # type: ignore[index,dict-item]
                )
            },
            "workload chat: sessions of one turn only",
        ),
        (
            {
                "engines": stages(
                    {
                        **LOAD,
                        "workload": [
                            {**LOAD["workload"][0], "arrivals": {"kind": "closed-loop", "users": 3}}  # type: ignore[index,dict-item]
                        ],
                    }
                )
            },
            "workload chat: a closed loop",
        ),
    ],
)
def test_bad_plans(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(ScenarioError, match=told):
        load_plan(write(tmp_path, **changes))


def test_no_such_plan() -> None:
    with pytest.raises(ScenarioError, match=r"no-such\.yaml: no such file"):
        load_plan(Path("no-such.yaml"))
