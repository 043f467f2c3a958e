"""The command: predictions in the file's order, and one line for whatever is wrong."""

import csv
import json
from pathlib import Path

import pytest

from simulator.catalog import find_gpu, find_model
from simulator.step_time.profile import dump_profile
from simulator.step_time.roofline import roofline_profile
from tests.validation.conftest import MakeFile
from validation.replay import PREDICTED, main

ROWS = """arrival_s,input_tokens,output_tokens,user
5.5,500,20,late
0.25,100,1,one token
0.5,4000,200,too long
0.5,300,0,no token
"""


def run(requests: Path, engine: Path, out: Path, *more: str) -> int:
    given = ["--requests", str(requests), "--engine", str(engine), "--out", str(out)]
    if "--profile" not in more:
        given += ["--profile", "auto", "--gpu", "H100-SXM"]
    return main([*given, *more])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_predictions_stand_beside_the_rows(
    written: MakeFile, engine: MakeFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions.csv"
    assert run(written(ROWS), engine(), out) == 0
    late, single, too_long, none = table(out)
    assert list(late) == ["arrival_s", "input_tokens", "output_tokens", "user", *PREDICTED]
    assert [row["user"] for row in (late, single, too_long, none)] == [
        "late",
        "one token",
        "too long",
        "no token",
    ]
    assert float(late["e2e_ms"]) == pytest.approx(float(late["ttft_ms"]) + 19 * float(late["tpot_ms"]))
    assert float(late["ttft_ms"]) > float(late["queue_ms"]) >= 0
    assert single["tpot_ms"] == ""
    assert single["ttft_ms"] == single["e2e_ms"]
    assert late["preemptions"] == "0"
    assert [too_long[name] for name in PREDICTED[:4]] == [""] * 4
    assert float(none["ttft_ms"]) > 0
    told = capsys.readouterr().out
    assert "1 requests end rejected" in told
    assert "the first in row 3" in told
    assert not list(tmp_path.glob("*.partial"))


def test_both_engines_predict_the_same(written: MakeFile, engine: MakeFile, tmp_path: Path) -> None:
    requests, config = written(ROWS), engine(num_gpu_blocks_override=260)
    for name in ("skipping", "plain"):
        assert run(requests, config, tmp_path / name, "--engine-impl", name) == 0
    assert (tmp_path / "skipping").read_bytes() == (tmp_path / "plain").read_bytes()


def test_shared_prefixes_make_the_second_prompt_cheaper(
    written: MakeFile, engine: MakeFile, tmp_path: Path
) -> None:
    blocks = " ".join(map(str, range(125)))
    rows = "arrival_s,input_tokens,output_tokens,prefix_block_ids\n"
    rows += f"0,2010,2,{blocks}\n9,2010,2,{blocks}\n"
    assert run(written(rows), engine(), tmp_path / "o.csv") == 0
    first, second = table(tmp_path / "o.csv")
    assert float(second["ttft_ms"]) < 0.5 * float(first["ttft_ms"])


def test_measured_times_are_compared_and_kept(
    written: MakeFile, engine: MakeFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "arrival_s,input_tokens,output_tokens,ttft_ms,tpot_ms,e2e_ms\n0,100,5,20,8,52\n1,100,5,20,8,52\n"
    assert run(written(rows), engine(), tmp_path / "o.csv") == 0
    row = table(tmp_path / "o.csv")[0]
    assert row["measured_ttft_ms"] == "20"
    assert row["ttft_ms"] != "20"
    told = capsys.readouterr().out
    assert "measured:  makespan 1.05 s" in told
    assert all(name in told for name in ("MAPE", "TTFT", "TPOT", "E2E"))


def test_at_most_so_many_in_flight(written: MakeFile, engine: MakeFile, tmp_path: Path) -> None:
    rows = "arrival_s,input_tokens,output_tokens\n" + "0,1000,50\n" * 6
    times = {}
    for concurrency in (1, 6):
        out = tmp_path / f"{concurrency}.csv"
        assert run(written(rows), engine(), out, "--concurrency", str(concurrency)) == 0
        times[concurrency] = [float(row["ttft_ms"]) for row in table(out)]
    assert max(times[1]) == pytest.approx(min(times[1]))
    assert max(times[6]) > 2 * max(times[1])


def test_a_profile_tells_what_the_configuration_does_not(
    written: MakeFile, engine: MakeFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = roofline_profile(find_gpu("H100-SXM"), find_model("Qwen/Qwen3-32B"), dtype="fp8", tp=2)
    path = written(dump_profile(profile), "profile.yaml")
    config = engine(model="org/unheard-of")
    assert (
        run(written(ROWS), config, tmp_path / "o.csv", "--profile", str(path), "--vllm-version", "v0.23.1")
        == 0
    )
    told = capsys.readouterr().out
    assert "org/unheard-of on 2 x H100-SXM, vLLM 0.23" in told
    assert "tensor-parallel-size 2: the profile's" in told
    assert "weights in fp8: the profile's" in told
    assert "not checked against it" in told


def test_a_model_by_its_configuration_file(written: MakeFile, engine: MakeFile, tmp_path: Path) -> None:
    config = {
        "hidden_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "intermediate_size": 4096,
        "vocab_size": 32000,
        "max_position_embeddings": 8192,
        "model_type": "llama",
    }
    written(json.dumps(config), "config.json")
    out = tmp_path / "o.csv"
    assert run(written(ROWS), engine(model="config.json"), out) == 0
    assert run(written(ROWS), engine(model=None), out, "--model", str(tmp_path / "config.json")) == 0


def test_a_context_that_the_estimate_cannot_hold(
    written: MakeFile, engine: MakeFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine ran, so its KV cache held what it served."""
    config = engine(max_model_len=None, num_gpu_blocks_override=300)
    assert run(written(ROWS), config, tmp_path / "o.csv") == 0
    assert all(row["e2e_ms"] for row in table(tmp_path / "o.csv"))
    assert "max-model-len 4200, that of the longest request, for: one request of" in capsys.readouterr().out


def test_keys_that_vllm_does_not_have_are_named(
    written: MakeFile, engine: MakeFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(written(ROWS), engine(max_num_sequences=3), tmp_path / "o.csv") == 0
    assert (
        "max-num-sequences: not an argument of vllm serve that is known here, left out"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("more", "change", "reason"),
    [
        (("--profile", "auto"), {}, "--gpu: is needed with --profile auto"),
        (("--profile", "auto", "--gpu", "H1000"), {}, "--gpu: unknown GPU 'H1000'"),
        (
            ("--profile", "mine.yaml"),
            {},
            "--profile: 'mine.yaml' is neither a file nor one of auto, roofline",
        ),
        (("--vllm-version", "7.1"), {}, "--vllm-version: '7.1' is not known; known are 0.19"),
        (("--vllm-version", "new"), {}, "--vllm-version: expected a version such as"),
        (("--tp", "2"), {"tensor_parallel_size": 4}, "--tp: 2 is not the tensor-parallel-size 4"),
        ((), {"model": None}, "names no model: say which"),
        ((), {"max_num_seqs": "many"}, "engine.yaml"),
        (
            (),
            {"num_gpu_blocks_override": 10},
            "engine.yaml: one request of max_model_len 4096 does not fit 9",
        ),
    ],
)
def test_one_line_for_what_is_wrong(
    written: MakeFile,
    engine: MakeFile,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    change: dict[str, object],
    reason: str,
) -> None:
    assert run(written(ROWS), engine(**change), tmp_path / "o.csv", *more) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert told.count("\n") == 1
    assert not (tmp_path / "o.csv").exists()
