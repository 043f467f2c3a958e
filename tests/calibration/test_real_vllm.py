"""A capture with a real vLLM, on whatever this machine has: ``make capture-test``."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from calibration.capture_format import read_capture
from tests.calibration.test_plan import SHAPE
from validation.real_trace import differing_steps, traces_of

pytestmark = pytest.mark.vllm

REPOSITORY = Path(__file__).parents[2]
LOAD = {
    "kind": "load",
    "regime": "starved",
    "duration": "4s",
    "workload": [
        {
            "name": "chat",
            "arrivals": {"kind": "poisson", "rate": 20},
            "lengths": {
                "kind": "uniform",
                "input": {"min": 10, "max": 100},
                "output": {"min": 40, "max": 100},
            },
            "sessions": {"system_prompt_tokens": 64},
        }
    ],
}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    stages = [
        {"name": "warmup", "kind": "warmup"},
        {"name": "decode", "kind": "column", "contexts": [64], "batches": [4, 2, 1], "steps": 4},
        {"name": "mixed", "kind": "mixed", "decodes": [2], "context": 64, "sizes": [16, 64], "repeats": 2},
        {"name": "starved", **LOAD},
        {"name": "again", **LOAD, "duration": "60s"},
    ]
    engine = {
        "name": "sync",
        "vllm": {
            "max_model_len": 512,
            "max_num_seqs": 8,
            "max_num_batched_tokens": 256,
            "block_size": 32,
            "num_gpu_blocks_override": 24,
            "async_scheduling": False,
        },
        "stages": stages,
    }
    path = tmp_path / "plan.yaml"
    shape = SHAPE | {"hidden": 256, "heads": 8, "kv_heads": 4, "vocab": 32000}
    path.write_text(
        yaml.safe_dump({"name": "test", "model": {"name": "t", "shape": shape}, "engines": [engine]})
    )
    return path


def test_interrupted_in_the_last_load(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "calibration.capture", "--plan", str(plan), "--out", str(out)]
    process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while not (out / "parts" / "00005.steps.parquet").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the engine's processes too
        assert process.wait(90) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    capture = read_capture(out)
    assert [(stage.name, stage.status) for stage in capture.manifest.stages] == [
        ("warmup", "ok"),
        ("decode_c64_fill", "ok"),
        ("decode_c64", "ok"),
        ("mixed_n2_fill", "ok"),
        ("mixed_n2", "ok"),
        ("starved", "ok"),
        ("again", "interrupted"),
    ]
    (trace,) = traces_of(capture)
    assert trace.stages[-1] == 6  # the interrupted load's steps were kept
    assert trace.num_preemptions > 5
    assert trace.num_prefix_hits > 5
    assert differing_steps(trace) == []
    statuses = set(capture.requests["status"].to_pylist())
    assert statuses == {"finished", "aborted", "cut"}
