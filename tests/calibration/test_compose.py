import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from calibration.compose import main
from simulator.catalog import find_model, model_names
from simulator.step_time import load_profile

SHAPE = {
    "hidden_size": 4096,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 51200,
    "max_position_embeddings": 8192,
}


def run(*arguments: str) -> Result:
    app = Typer()
    app.command()(main)
    return CliRunner().invoke(app, list(arguments))


def test_a_model_of_ones_own_from_its_config(made_up_tables: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "config.json", tmp_path / "mine.yaml"
    config.write_text(json.dumps(SHAPE), encoding="utf-8")
    result = run(
        *("--gpu", "H100", "--model", str(config), "--tp", "2", "--quantisation", "fp8"),
        *("--kv-cache-dtype", "fp8", "--tables", str(made_up_tables), "--out", str(out)),
    )
    assert result.exit_code == 0, result.output
    assert "pure_prefill: mean" in result.output
    identity = load_profile(out).identity
    assert (identity.tp, identity.dtype, identity.kv_cache_dtype) == (2, "fp8", "fp8")
    assert identity.quantisation == "fp8"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith("partial")] == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--gpu", "V100", "--model", "Qwen/Qwen3-8B"), "unknown GPU"),
        (("--gpu", "H100", "--model", "nothing"), "unknown model"),
        (("--gpu", "H100", "--model", "Qwen/Qwen3-8B"), "neither LLMServingSim's meta.yaml of H100-SXM and"),
        (("--gpu", "H100", "--model", "Qwen/Qwen3-8B", "--quantisation", "int4"), "only fp8 has tables"),
    ],
)
def test_command_refuses_what_it_cannot_make(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    out = tmp_path / "x.yaml"
    result = run(*arguments, "--tables", str(tmp_path), "--out", str(out))
    assert result.exit_code == 2
    assert reason in result.output
    assert not out.exists()


def test_it_says_when_auto_would_take_another(
    operator_tables: Path, package_tables: object, tmp_path: Path
) -> None:
    result = run(
        "--gpu", "RTXPRO6000", "--model", "meta-llama/Llama-3.1-8B", "--out", str(tmp_path / "x.yaml")
    )
    assert result.exit_code == 0, result.output
    assert "auto takes the shipped profile of the same name, which is from LLMServingSim" in result.output


@pytest.mark.slow
def test_every_dense_model_of_the_catalogue_composes(operator_tables: Path, tmp_path: Path) -> None:
    shapes = {find_model(name).shape.model_dump_json(): name for name in model_names()}
    failed = {}
    for name in shapes.values():
        shape = find_model(name).shape
        if shape.experts or shape.head_dim != 128:
            continue
        result = run(
            *("--gpu", "H100", "--model", name, "--tp", "1"),
            *("--tables", str(operator_tables), "--out", str(tmp_path / "x.yaml")),
        )
        if result.exit_code:
            failed[name] = result.output
    assert failed == {}
