"""The excerpt is the warm-ups and the first sweep of a dry run of the kit on a CPU; its nvml.csv is made up."""

import json
import shutil
from pathlib import Path

import pytest

from calibration.capture_format import Capture, CaptureError, read_capture
from calibration.inspect import step_table
from calibration.visit_kit import convert

EXCERPT = Path(__file__).parent / "visit_kit_excerpt"


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    out = tmp_path_factory.mktemp("kit") / "out"
    convert([EXCERPT], out)
    return read_capture(out)


def test_engines_and_stages(capture: Capture) -> None:
    manifest = capture.manifest
    assert (manifest.gpu, manifest.versions["vllm"]) == ("CPU", "0.32.0")
    assert [(engine.name, engine.num_gpu_blocks) for engine in manifest.engines] == [
        ("async8b", 200),
        ("starved8b", 33),
    ]
    assert manifest.engines[0].shape.layers == 4
    assert manifest.engines[0].scheduler["policy"] == "fcfs"
    assert not manifest.engines[0].async_scheduling  # off on a CPU, whatever was asked for
    assert [phase.phase for phase in manifest.engines[0].startup][-1] == "ready"
    stages = {(stage.engine, stage.name): stage for stage in manifest.stages}
    assert stages[0, "chunk"].purpose == "calibration"
    assert stages[0, "chunk"].status == "ok"
    assert stages[0, "warmup"].purpose == stages[0, "flush"].purpose == "warmup"


def test_tokens_add_up(capture: Capture) -> None:
    """Prompt, less what was cached, plus every output token but the last; unless it was preempted."""
    computed: dict[int, int] = {}
    preempted: set[int] = set()
    for step in capture.steps.to_pylist():
        preempted.update(step["preempted"])
        for number, tokens in zip(step["requests"], step["tokens"], strict=True):
            computed[number] = computed.get(number, 0) + tokens
    assert preempted
    checked = 0
    for number, request in enumerate(capture.requests.to_pylist()):
        if number in computed and number not in preempted and request["status"] == "finished":
            cached = request["cached_tokens"] or 0
            assert computed[number] == request["prompt_tokens"] - cached + request["output_tokens"] - 1
            checked += 1
    assert checked > 40


def test_chunks(capture: Capture) -> None:
    steps = step_table(capture)
    chunk = next(k for k, stage in enumerate(capture.manifest.stages) if stage.name == "chunk")
    assert steps[steps.stage == chunk].prompt_tokens.tolist() == [16, 64, 256] * 2
    assert (steps.ms > 0).all()


def test_device_samples(capture: Capture) -> None:
    first, second = capture.device.to_pylist()  # the last line was cut
    assert (first["sm_clock_mhz"], first["memory_used_bytes"]) == (1980, 2 * 2**20)
    assert second["power_w"] is None


def test_two_visits_follow_each_other(tmp_path: Path) -> None:
    convert([EXCERPT, EXCERPT], tmp_path / "out")
    capture = read_capture(tmp_path / "out")
    assert [stage.engine for stage in capture.manifest.stages][-1] == 3
    steps = capture.steps.to_pylist()
    half = len(steps) // 2
    assert steps[half]["schedule_us"] > steps[half - 1]["update_us"]
    assert [step["tokens"] for step in steps[:half]] == [step["tokens"] for step in steps[half:]]


def test_a_trace_cut_in_the_middle(tmp_path: Path) -> None:
    folder = tmp_path / "visit"
    shutil.copytree(EXCERPT, folder)
    path = folder / "steps.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-200])
    convert([folder], tmp_path / "out")
    assert 0 < read_capture(tmp_path / "out").steps.num_rows < 100


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"meta\.jsonl: No such file"):
        convert([tmp_path], tmp_path / "out")
    folder = tmp_path / "visit"
    shutil.copytree(EXCERPT, folder)
    meta = folder / "meta.jsonl"
    text = meta.read_text()
    meta.write_text(text + "{")
    with pytest.raises(CaptureError, match=r"meta\.jsonl: line \d+: not JSON"):
        convert([folder], tmp_path / "out")
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        if line["k"] == "config":
            line["device"] = "NVIDIA H200"
    meta.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CaptureError, match="mixed captures: devices NVIDIA H200, cpu"):
        convert([EXCERPT, folder], tmp_path / "out")
