import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from calibration.capture_folder import PARTS, CaptureFolder
from calibration.capture_format import Capture, CaptureError, CaptureManifest, read_capture
from calibration.capture_progress import CaptureProgress
from calibration.capture_run import CaptureRun, new_manifest
from calibration.clock import CaptureClock
from calibration.device_sampler import DeviceSampler
from calibration.inspect import anomalies, step_table
from calibration.plan import LoadedPlan, PlannedEngine, load_plan
from tests.calibration.fake_engine import FakeEngine
from tests.calibration.test_plan import LOAD, write

STAGES: list[dict[str, Any]] = [
    {"name": "warmup", "kind": "warmup"},
    {"name": "chunk", "kind": "chunks", "contexts": [0, 32], "sizes": [16, 64], "repeats": 2},
    {"name": "decode", "kind": "column", "contexts": [32], "batches": [4, 2], "steps": 3},
    {"name": "mixed", "kind": "mixed", "decodes": [2], "context": 32, "sizes": [16, 64], "repeats": 2},
    LOAD,
]


@pytest.fixture
def plan(tmp_path: Path) -> LoadedPlan:
    return load_plan(write(tmp_path, engines=[{"name": "sync", "stages": STAGES}]))


class Session:
    """One run of the command, with a fake engine."""

    def __init__(
        self, plan: LoadedPlan, out: Path, *, resume: bool = False, fail_at: int | None = None
    ) -> None:
        self.engines: list[FakeEngine] = []

        def start(engine: PlannedEngine) -> FakeEngine:
            self.engines.append(FakeEngine(plan, engine, out.parent / f"trace-{out.name}", fail_at))
            return self.engines[-1]

        self.folder = CaptureFolder(out, manifest(plan), resume=resume)
        clock = CaptureClock(self.folder.end_us + 1 if resume else 0)
        progress = CaptureProgress(Console(quiet=True), quiet=True)
        self.run = CaptureRun(plan, self.folder, start, progress, clock, DeviceSampler(clock))

    def whole(self) -> None:
        asyncio.run(self.run.run())
        self.folder.finish()

    def interrupted(self, when: Callable[[CaptureManifest], bool]) -> None:
        async def interrupt() -> None:
            task = asyncio.ensure_future(self.run.run())
            while not when(self.folder.manifest):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.5)
            self.run.interrupt()
            await task

        asyncio.run(interrupt())


def manifest(plan: LoadedPlan, **changes: Any) -> CaptureManifest:
    fields = {"gpu": "CPU", "device_name": "a CPU", "versions": {"vllm": "0.32.0"}} | changes
    return new_manifest(plan, **fields)


def names(capture: Capture) -> list[tuple[str, str]]:
    return [(stage.name, stage.status) for stage in capture.manifest.stages]


def test_a_whole_plan(plan: LoadedPlan, tmp_path: Path) -> None:
    session = Session(plan, tmp_path / "out")
    session.whole()
    assert session.run.not_ok == []
    capture = read_capture(tmp_path / "out")
    assert [name for name, _ in names(capture)] == [
        "warmup",
        "chunk_c0",
        "chunk_c32_fill",
        "chunk_c32",
        "decode_c32_fill",
        "decode_c32",
        "mixed_n2_fill",
        "mixed_n2",
        "knee",
    ]
    assert {status for _, status in names(capture)} == {"ok"}
    assert not (tmp_path / "out" / PARTS).exists()
    requests, steps = capture.requests.to_pylist(), capture.steps.to_pylist()
    # Position is number: what the engine got is what the tables say.
    engine = session.engines[0]
    assert {n: len(prompt) for n, prompt in engine.prompts.items()} == {
        n: request["prompt_tokens"] for n, request in enumerate(requests)
    }
    assert {request["status"] for request in requests} == {"finished", "aborted"}
    assert sum(request["status"] == "aborted" for request in requests) == 2
    for number, request in enumerate(requests):
        first = next(step for step in steps if number in step["requests"])
        assert first["stage"] == request["stage"]
        assert request["arrival_step"] <= first["step"]
        # Every computed token: the prompt, and each output token but the last.
        if request["status"] == "finished":
            computed = sum(
                tokens
                for step in steps
                for n, tokens in zip(step["requests"], step["tokens"], strict=True)
                if n == number
            )
            assert computed == request["prompt_tokens"] + request["output_tokens"] - 1
    load = [request for request in requests if request["due_us"] is not None]
    assert len(load) == 20
    assert all(len(request["token_gaps_us"]) == 4 and request["output_tokens"] == 5 for request in load)
    assert all(request["submitted_us"] >= request["due_us"] for request in load)


def test_shared_content_is_equal_and_the_rest_is_not(plan: LoadedPlan, tmp_path: Path) -> None:
    session = Session(plan, tmp_path / "out")
    session.whole()
    requests = read_capture(tmp_path / "out").requests.to_pylist()
    contents: dict[int, list[int]] = {}
    tails = set()
    for number, prompt in session.engines[0].prompts.items():
        start = 0
        for content, end in zip(
            requests[number]["segment_ids"], requests[number]["segment_ends"], strict=True
        ):
            known = contents.setdefault(content, prompt[:end])
            shared = min(len(known), end)
            assert prompt[start:shared] == known[start:shared]
            contents[content] = max(known, prompt[:end], key=len)
            start = end
        if len(prompt) - start >= 8:
            tails.add(tuple(prompt[start : start + 8]))
    own = [r for r in requests if r["prompt_tokens"] - (r["segment_ends"] or [0])[-1] >= 8]
    assert len(tails) == len(own)


def test_interrupted_and_resumed(plan: LoadedPlan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = Session(plan, out)
    first.interrupted(lambda manifest: len(manifest.stages) == 8)  # in the load, which takes two seconds
    assert first.run.interrupted
    first.folder.finish()
    capture = read_capture(out)
    assert names(capture)[-1] == ("knee", "interrupted")
    cut = capture.requests.to_pylist()[-1]
    assert cut["stage"] == 8

    second = Session(plan, out, resume=True)
    second.whole()
    capture = read_capture(out)
    # A new engine process is warmed up, and only the load is left to do.
    assert names(capture)[9:] == [("warmup", "ok"), ("knee", "ok")]
    assert len(capture.manifest.engines) == 2
    assert capture.steps.to_pylist()[-1]["engine"] == 1
    times = [step["schedule_us"] for step in capture.steps.to_pylist()]
    assert times == sorted(times)

    third = Session(plan, out, resume=True)
    third.whole()
    assert third.engines == []  # nothing left: no engine is started


def test_a_killed_capture_keeps_its_stages(plan: LoadedPlan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed = Session(plan, out)
    killed.interrupted(lambda manifest: len(manifest.stages) == 8)
    # No finish(): the parts are all there is.
    with pytest.raises(CaptureError, match=r"--resume"):
        read_capture(out)
    Session(plan, out, resume=True).whole()
    assert ("knee", "ok") in names(read_capture(out))
    assert len(names(read_capture(out))) == 11


def test_an_engine_that_dies(plan: LoadedPlan, tmp_path: Path) -> None:
    session = Session(plan, tmp_path / "out", fail_at=40)
    session.whole()
    capture = read_capture(tmp_path / "out")
    assert names(capture)[-1][1] == "error"
    assert any("the engine died" in note for note in capture.manifest.notes)
    assert session.run.not_ok


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"versions": {"vllm": "0.26.0"}},
            r"manifest\.json: vllm: the capture has '0\.32\.0', this run '0\.26\.0'",
        ),
        ({"device_name": "another"}, r"device_name: the capture has 'a CPU', this run 'another'"),
    ],
)
def test_resume_refuses_another_engine(plan: LoadedPlan, tmp_path: Path, changes: Any, told: str) -> None:
    Session(plan, tmp_path / "out").whole()
    with pytest.raises(CaptureError, match=told):
        CaptureFolder(tmp_path / "out", manifest(plan, **changes), resume=True)


def test_resume_refuses_another_plan(plan: LoadedPlan, tmp_path: Path) -> None:
    Session(plan, tmp_path / "out").whole()
    other = load_plan(write(tmp_path, engines=[{"name": "sync", "stages": STAGES[:2]}]))
    with pytest.raises(CaptureError, match="plan_sha256"):
        CaptureFolder(tmp_path / "out", manifest(other), resume=True)


def test_folders_that_are_no_place_for_a_capture(plan: LoadedPlan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CaptureError, match="no capture to resume"):
        CaptureFolder(out, manifest(plan), resume=True)
    Session(plan, out).whole()
    with pytest.raises(CaptureError, match="holds a capture already; --resume"):
        CaptureFolder(out, manifest(plan), resume=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(CaptureError, match="not empty, and what it holds is no capture"):
        CaptureFolder(tmp_path / "other", manifest(plan), resume=False)


def test_time_is_up(plan: LoadedPlan, tmp_path: Path) -> None:
    session = Session(plan, tmp_path / "out")
    session.run._deadline = 0.0
    session.whole()
    assert session.run.not_ok == ["sync"]
    assert read_capture(tmp_path / "out").manifest.stages == []


def test_what_is_told_of_it(plan: LoadedPlan, tmp_path: Path) -> None:
    Session(plan, tmp_path / "out").whole()
    capture = read_capture(tmp_path / "out")
    table = step_table(capture)
    column = table[table.stage == 5]
    assert column[column.kind == "decode"].groupby("decodes").size().to_dict() == {4: 3, 2: 3}
    mixed = table[(table.stage == 7) & (table.kind == "mixed")]
    assert sorted(mixed.prompt_tokens) == [16, 16, 64, 64]
    assert not [text for text in anomalies(capture, table) if "times their median" not in text]
