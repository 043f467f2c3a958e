"""The command: exit codes, what is said where, and that nothing half-written stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from simulator.records.results import read_results
from simulator.run import main
from tests.small import HPA, merged, write

app = typer.Typer()
app.command()(main)

FILES = {
    "summary.json",
    "scenario.yaml",
    "requests.parquet",
    "attempts.parquet",
    "timeline.parquet",
    "events.parquet",
    "itl.parquet",
    "report.html",
}
SHORT = ["--set", "duration=5s"]


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# --- runs that go well ---------------------------------------------------------------------------------------


def test_quiet_run_writes_everything_and_says_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(write(tmp_path), "--out", out, "--quiet", *SHORT)
    assert (result.exit_code, result.output) == (0, "")
    names = {path.name for path in out.iterdir()}
    assert names >= FILES
    assert any(name.endswith(".png") for name in names) or (out / "plots").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scenario.yaml"]
    assert "http" not in (out / "report.html").read_text().replace("http://www.w3.org", "")
    read_results(out)


def test_summary_names_verdict_and_report(tmp_path: Path) -> None:
    result = call(write(tmp_path), "--out", tmp_path / "out", "--seed", 3, *SHORT)
    assert result.exit_code == 0
    assert "SLO met" in result.stdout or "SLO missed" in result.stdout
    assert "seed 3" in result.stdout
    assert str(tmp_path / "out" / "report.html") in result.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["run"]["seed"] == 3


def test_default_folder_is_named_after_the_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(write(tmp_path), "--quiet", *SHORT, "--set", "name=other").exit_code == 0
    assert (tmp_path / "results" / "other" / "summary.json").is_file()


def test_set_changes_the_run_and_is_recorded(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call(write(tmp_path), "--out", out, "--quiet", *SHORT, "--set", "fleet.replicas=2").exit_code == 0
    assert yaml.safe_load((out / "scenario.yaml").read_text())["fleet"]["replicas"] == 2
    assert json.loads((out / "summary.json").read_text())["fleet"]["replicas_ready"]["max"] == 2


@pytest.mark.parametrize(("ttft", "code"), [("1ms", 3), ("60s", 0)])
@pytest.mark.parametrize("replications", [1, 2])
def test_fail_on_slo(tmp_path: Path, ttft: str, code: int, replications: int) -> None:
    arguments = [
        "--out",
        tmp_path / "out",
        "--quiet",
        "--fail-on-slo",
        "--set",
        f"slo={{ttft: {ttft}}}",
        *SHORT,
    ]
    result = call(write(tmp_path), *arguments, "--replications", replications, "--jobs", 1)
    assert result.exit_code == code
    assert (tmp_path / "out" / "summary.json").is_file()


def test_missed_slo_without_the_flag_is_no_failure(tmp_path: Path) -> None:
    assert (
        call(write(tmp_path), "--out", tmp_path / "o", "--quiet", "--set", "slo.ttft=1ms", *SHORT).exit_code
        == 0
    )


def test_old_results_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in (1, 2):
        assert call(write(tmp_path), "--out", out, "--quiet", "--seed", seed, *SHORT).exit_code == 0
    assert json.loads((out / "summary.json").read_text())["run"]["seed"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scenario.yaml"]


# --- bad input -----------------------------------------------------------------------------------------------

TRACE = "arrival_s,input_tokens,output_tokens\n0,10,10\n1,10,10\n40,x,10\n"


def _hpa(change: dict[str, Any]) -> Callable[[Path], Path]:
    return lambda folder: write(folder, hpa=change)


def _scenario(change: dict[str, Any]) -> Callable[[Path], Path]:
    return lambda folder: write(folder, change)


def _edited(old: str, new: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return path

    return make


def _trace(folder: Path) -> Path:
    (folder / "trace.csv").write_text(TRACE)
    arrivals = {"kind": "trace", "file": "trace.csv"}
    return write(folder, {"workload": [{"name": "t", "arrivals": arrivals}]})


def _deployment(folder: Path) -> Path:
    container = {"name": "vllm", "image": "vllm", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "vllm"},
        "spec": {
            "selector": {"matchLabels": {"app": "vllm"}},
            "template": {"metadata": {"labels": {"app": "vllm"}}, "spec": {"containers": [container]}},
        },
    }
    (folder / "deployment.yaml").write_text(yaml.safe_dump(manifest))
    return write(folder, {"fleet": {"deployment": "deployment.yaml"}})


def _metric(name: str) -> dict[str, Any]:
    metrics = merged({"metrics": HPA["spec"]["metrics"]}, {})["metrics"]
    metrics[0]["pods"]["metric"]["name"] = name
    return {"spec": {"metrics": metrics}}


MODEL = "meta-llama/Llama-3.1-70B"
FLAT_TRACE = {"kind": "trace", "file": "none.csv"}
BAD: list[tuple[str, Callable[[Path], Path], str]] = [
    ("no scenario", lambda folder: folder / "none.yaml", r"none\.yaml: no such file"),
    ("a folder", lambda folder: folder, r"expected a file, this is a folder"),
    ("no HPA", _scenario({"fleet": {"autoscaling": {"policies": [{"kind": "hpa", "manifest": "none.yaml"}]}}}),
     r"scenario\.yaml:\d+: fleet\.autoscaling\.policies\.0\.manifest: no such file: .*none\.yaml"),
    ("no Deployment", _scenario({"fleet": {"deployment": "none.yaml"}}),
     r"scenario\.yaml:\d+: fleet\.deployment: no such file: .*none\.yaml"),
    ("no vLLM file", _edited("  gpu:", "  gpu: H100-SXM\n  vllm: none.yaml\n  x:"), r"given twice|unknown key"),
    ("manifest's key", _hpa({"spec": {"minReplica": 2}}),
     r"hpa\.yaml:\d+: spec\.minReplica: unknown key; did you mean minReplicas\?"),
    ("manifest's value", _hpa({"spec": {"minReplicas": 9}}), r"hpa\.yaml:\d+: spec\.maxReplicas: .*not 4"),
    ("unknown metric", _hpa(_metric("qps")), r"hpa\.yaml:\d+: spec\.metrics\[0\]: nothing exports 'qps'"),
    ("unknown GPU", _scenario({"engine": {"gpu": "H300"}}),
     r"scenario\.yaml:\d+: engine\.gpu: unknown GPU 'H300'; did you mean"),
    ("unknown model", _scenario({"engine": {"vllm": {"model": "meta-llama/Llama-9"}}}),
     r"scenario\.yaml:\d+: engine\.vllm: unknown model"),
    ("model too large", _scenario({"engine": {"vllm": {"model": MODEL, "num-gpu-blocks-override": None}}}),
     r"scenario\.yaml:\d+: engine\.gpu: .* do not fit"),
    ("model too large, blocks given", _scenario({"engine": {"vllm": {"model": MODEL}}}),
     r"scenario\.yaml:\d+: engine\.gpu: .* do not fit"),
    ("fewer blocks than a request", _scenario({"engine": {"vllm": {"num-gpu-blocks-override": 128}}}),
     r"engine\.vllm: one request of max_model_len 2048 does not fit 127 usable KV blocks"),
    ("more blocks than memory", _scenario({"engine": {"vllm": {"num-gpu-blocks-override": 10**6}}}),
     r"engine\.vllm: num-gpu-blocks-override 1000000 is more than fits"),
    ("GPUs of the pod", _deployment, r"scenario\.yaml:\d+: fleet\.deployment: the pod asks for 2 GPU"),
    ("broken trace", _trace, r"trace\.csv: line 4: input_tokens must be a whole number"),
    ("no trace", _scenario({"workload": [{"name": "t", "arrivals": FLAT_TRACE}]}),
     r"scenario\.yaml:\d+: workload\.0\.arrivals\.file: no such file"),
    ("no lengths", _scenario({"workload": [{"name": "t", "arrivals": {"kind": "poisson", "rate": 1},
                                            "lengths": {"kind": "empirical", "file": "none.csv"}}]}),
     r"scenario\.yaml:\d+: workload\.0\.lengths: cannot read lengths"),
    ("misspelt key", _edited("duration:", "durations:"), r"scenario\.yaml:2: durations: unknown key; did you mean"),
    ("key twice", _edited("seed: 7", "seed: 7\nseed: 8"), r"scenario\.yaml:5: not valid YAML: .*given twice"),
    ("tab", _edited("seed: 7", "seed:\t7\n\tx: 1"), r"scenario\.yaml:\d: not valid YAML"),
    ("no list", _edited("workload:\n", "workload: []\nworkloads:\n"), r"workload"),
    ("empty list", _scenario({"workload": []}), r"workload: expected at least 1 item\(s\), got 0"),
    ("number for text", _scenario({"engine": {"vllm_version": 0.32}}), r"vllm_version: .*in quotes"),
    ("unknown cloud", _scenario({"cluster": {"pools": [{"name": "p", "cloud": "mars"}]}}),
     r"scenario\.yaml:\d+: cluster\.pools\.0\.cloud: unknown cloud"),
    ("spikes without a base", _scenario({"workload": [{"name": "t",
        "lengths": {"kind": "fixed", "input": 1, "output": 1},
        "arrivals": {"kind": "spikes", "mean_rate": 1, "peak_factor": 9, "ramp": 9, "hold": 9, "every": 30}}]}),
     r"scenario\.yaml:\d+: workload\.0\.arrivals"),
    ("broken profile", lambda folder: write(folder, {"engine": {"profile": _profile(folder)}}), r"engine\.profile"),
]  # fmt: skip


def _profile(folder: Path) -> str:
    (folder / "p.yaml").write_text("a: [1\nb: 2\n")
    return "p.yaml"


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = call(path, "--out", tmp_path / "results" / "out", "--quiet")
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    import re

    assert re.search(message, result.stderr), result.stderr
    after = [path for path in tmp_path.rglob("*") if path.parent != tmp_path]
    assert sorted(set(tmp_path.iterdir()) - {tmp_path / "results"}) == before
    assert after == []


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "workload.0.arrivals.rte=3",
            r"--set workload.0.arrivals.rte=3: workload.0.arrivals.rte: unknown key",
        ),
        ("workload.3.name=x", "workload.3: no such item; the list has items 0 to 0"),
        ("duration", "expected KEY.PATH=VALUE"),
        ("=3", "expected KEY.PATH=VALUE"),
        ("duration=abc", "duration: expected a duration such as 30s"),
        ("engine.vllm.max-num-seqs=0", "engine.vllm.max-num-seqs: expected greater than or equal to 1"),
        ("name=a/b", "name: "),
    ],
)
def test_bad_assignment(tmp_path: Path, assignment: str, message: str) -> None:
    result = call(write(tmp_path), "--out", tmp_path / "out", "--set", assignment)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_out_must_not_destroy(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("mine")
    path = write(tmp_path)
    for out, reason in (
        (notes, "holds files but no summary.json"),
        (notes / "a.txt", "is a file"),
        (notes / "a.txt" / "x", "cannot be written"),
    ):
        result = call(path, "--out", out, "--quiet", *SHORT)
        assert (result.exit_code, result.stdout) == (2, "")
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1
    assert (notes / "a.txt").read_text() == "mine"


# --- the process ---------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulator.run", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_broken_trace_in_a_worker(tmp_path: Path) -> None:
    process = start(_trace(tmp_path), "--out", tmp_path / "out", "--replications", 3, "--jobs", 2, "--quiet")
    out, error = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert error.count("\n") == 1
    assert "line 4" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("number", "replications", "code"),
    [(signal.SIGINT, 3, 130), (signal.SIGTERM, 3, 143), (signal.SIGTERM, 1, 143)],
)
def test_a_run_that_is_stopped_leaves_what_was_there(
    tmp_path: Path, number: signal.Signals, replications: int, code: int
) -> None:
    path = write(tmp_path, {"duration": "5h"})
    assert call(path, "--out", tmp_path / "out", "--quiet", *SHORT).exit_code == 0
    old = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.is_file()}
    process = start(path, "--out", tmp_path / "out", "--replications", replications)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*")):  # it has begun
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    if number is signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    out, error = process.communicate(timeout=60)  # ends only when no worker holds the pipe any more
    assert process.returncode == code
    assert out == ""
    assert "nothing was written" in error
    assert "Traceback" not in error
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "scenario.yaml"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.is_file()} == old
