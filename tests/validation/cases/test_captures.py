"""Our own captures: found by listing, replayed at the arrivals that they had."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from calibration.capture_format import (
    DEVICE,
    REQUESTS,
    STEPS,
    CapturedEngine,
    CapturedStage,
    CaptureError,
    CaptureManifest,
    read_capture,
    write_capture,
)
from simulator.catalog import find_model
from validation.cases import captures
from validation.judge import errors, replay_case
from validation.real_trace import TRACES
from validation.run import find_cases, main

MODEL = "meta-llama/Llama-3.1-8B"
COUNT = 12


def engine() -> CapturedEngine:
    return CapturedEngine(
        name="e",
        model=MODEL,
        shape=find_model(MODEL).shape,
        dtype="bfloat16",
        kv_cache_dtype="auto",
        tp=1,
        pp=1,
        num_gpu_blocks=2000,
        block_size=16,
        max_model_len=4096,
        max_num_batched_tokens=2048,
        max_num_seqs=64,
        gpu_memory_utilization=0.9,
        enforce_eager=False,
        async_scheduling=True,
        enable_prefix_caching=True,
        scheduler={},
        compile_cache="warm",
        startup=[],
        resolved={},
    )


def stage(name: str, number: int, **changes: Any) -> CapturedStage:
    fields: dict[str, Any] = {
        "engine": 0,
        "name": name,
        "kind": "load",
        "purpose": "validation",
        "regime": "light",
        "status": "ok",
        "start_us": number * 60_000_000,
        "end_us": (number + 1) * 60_000_000,
        "plan": {},
    }
    return CapturedStage(**(fields | changes))


def request(number: int, stage_number: int, ttft_us: int) -> dict[str, Any]:
    sent_us = stage_number * 60_000_000 + number * 500_000
    row: dict[str, Any] = dict.fromkeys(REQUESTS.names)
    return row | {
        "engine": 0,
        "stage": stage_number,
        "arrival_step": number,
        "prompt_tokens": 200 + number,
        "max_tokens": 11,
        "segment_ids": [1],
        "segment_ends": [100],
        "submitted_us": sent_us,
        "queued_us": sent_us + 1000,
        "scheduled_us": sent_us + 1010,
        "first_token_us": sent_us + ttft_us,
        "last_token_us": sent_us + ttft_us + 10 * 20_000,
        "token_gaps_us": [],
        "output_tokens": 11,
        "status": "finished",
    }


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A folder with one capture: a load three times, 10 % slower to its first token from the second on."""
    manifest = CaptureManifest(
        plan="p",
        created="2026-01-01T00:00:00Z",
        gpu="RTX4090",
        device_name="a GPU",
        versions={"vllm": "0.26.0"},
        host={},
        engines=[engine()],
        stages=[
            stage("once", 0),
            stage("again", 1, repeat_of="once"),
            stage("fit", 2, purpose="calibration"),
            stage("column", 3, kind="column"),
            stage("third", 4, repeat_of="once"),
        ],
    )
    rows = [request(number, 0, 50_000) for number in range(COUNT)]
    rows += [request(number, 1, 55_000) for number in range(COUNT)]
    rows += [request(number, 4, 55_000) for number in range(COUNT)]
    rows[3]["status"] = "cut"
    rows[COUNT + 3]["status"] = rows[2 * COUNT + 3]["status"] = "cut"
    write_capture(
        tmp_path / "visit" / "p",
        manifest,
        STEPS.empty_table(),
        pa.Table.from_pylist(rows, REQUESTS),
        DEVICE.empty_table(),
    )
    return tmp_path


def test_loads_for_validation_are_found(records: Path) -> None:
    assert captures.folders(records) == {"visit--p": records / "visit" / "p"}
    names = [case.name for case in find_cases(None, records)]
    assert [name for name in names if name.startswith("visit")] == ["visit--p--e"]  # no steps: no decisions


def test_noise_is_the_difference_of_a_repeated_load(records: Path) -> None:
    capture = read_capture(records / "visit" / "p")
    once, again, third = captures.loads(capture)[0]
    assert captures.noise(capture, once) is None
    found = captures.noise(capture, again)
    assert found is not None
    before, noise = found
    assert before == "once"
    assert noise["ttft_ms"]["pairs"] == COUNT - 1
    assert noise["ttft_ms"]["mape_pct"] == pytest.approx(10.0)
    assert noise["tpot_ms"]["mape_pct"] == pytest.approx(0.0)
    found = captures.noise(capture, third)
    assert found is not None
    assert found[0] == "again"  # the run before it, not the first
    assert found[1]["ttft_ms"]["mape_pct"] == pytest.approx(0.0)


def test_a_load_is_replayed_at_its_arrivals(records: Path) -> None:
    capture = read_capture(records / "visit" / "p")
    case = captures.load_case(capture, captures.loads(capture)[0][0])
    assert len(case.requests) == COUNT
    assert case.requests[3].arrival_s == pytest.approx(1.5)
    assert case.replica.step_time.profile.name == "rtx4090--llama-3.1-8b--bf16--tp1"
    replayed = replay_case(case)
    assert (replayed.requests["cached_tokens"].iloc[1:] == 96).all()  # whole blocks of the shared 100 tokens
    figures = errors(case, replayed)
    assert set(figures["groups"]) == {"all", "unqueued"}  # without steps nobody knows what ran beside
    assert figures["groups"]["all"]["ttft_ms"]["pairs"] == COUNT - 1  # one was cut: load, not compared
    assert figures["groups"]["all"]["ttft_ms"]["mean"]["measured"] == pytest.approx(50.0)


def test_a_machine_without_a_profile_is_not_predicted(records: Path) -> None:
    capture = read_capture(records / "visit" / "p")
    capture.manifest.gpu = "CPU"
    with pytest.raises(CaptureError, match="CPU"):
        captures.load_case(capture, captures.loads(capture)[0][0])


def test_only_a_gpu_has_bars(records: Path) -> None:
    light = captures.loads(read_capture(records / "visit" / "p"))[0][0]
    assert [bar.at_most for bar in captures.bars("H200-SXM", light)] == [5.0, 2.0, 2.0]
    assert captures.bars("CPU", light) == ()
    assert captures.bars("H200-SXM", captures.Load(0, stage("x", 0, regime="prefix"))) == ()


def test_the_steps_of_a_real_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = captures.decisions("cpu-decisions--decisions", read_capture(TRACES))
    assert sum(item["steps"] for item in figures["engines"]) > 100
    assert {item["differing_steps"] for item in figures["engines"]} == {0}
    assert main(["--out", str(tmp_path), "--case", figures["case"]]) == 0
    assert "0 of " in capsys.readouterr().out
