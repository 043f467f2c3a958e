"""Takes a plan through its engines and stages into a capture's folder."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa

from calibration.capture_folder import CaptureFolder
from calibration.capture_format import STEPS, CapturedEngine, CapturedStage, CaptureError, CaptureManifest
from calibration.clock import CaptureClock
from calibration.device_sampler import DeviceSampler
from calibration.driver import Driver, EngineClient, TaskResult, request_rows
from calibration.host_facts import host
from calibration.plan import LoadedPlan, LoadStage, PlannedEngine
from calibration.tasks import Group, Limits, Task, expand

_RESERVE_S = 3.0


class RunningEngine(EngineClient, Protocol):
    """An engine that can be driven and says what it is."""

    def facts(self) -> CapturedEngine: ...


StartEngine = Callable[[PlannedEngine], AbstractContextManager[RunningEngine]]


class Progress(Protocol):
    """Who is told how far the capture is."""

    def engine(self, name: str) -> None: ...

    def stages(self, total: int) -> None: ...

    def stage(self, name: str) -> None: ...

    def requests(self, done: int, total: int) -> None: ...

    def ended(self, name: str, status: str, seconds: float, steps: int) -> None: ...

    def say(self, text: str) -> None: ...


def new_manifest(
    plan: LoadedPlan, *, gpu: str, device_name: str, versions: dict[str, str]
) -> CaptureManifest:
    """The manifest of a capture that begins."""
    return CaptureManifest(
        plan=plan.plan.name,
        plan_sha256=hashlib.sha256(plan.path.read_bytes()).hexdigest(),
        model=plan.model.name,
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        gpu=gpu,
        device_name=device_name,
        versions=versions,
        host=host(),
        engines=[],
        stages=[],
    )


def limits_of(engine: CapturedEngine) -> Limits:
    """What bounds the batches of an engine that has resolved its settings."""
    return Limits(
        usable_blocks=engine.num_gpu_blocks - 1,
        block_size=engine.block_size,
        max_model_len=engine.max_model_len,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        max_num_seqs=engine.max_num_seqs,
    )


class CaptureRun:
    """One run over a plan.

    Args:
        plan: what to do.
        folder: what there is already, and where results go.
        start: starts an engine.
        progress: is told.
        clock: of the capture.
        sampler: of the device.
        deadline: ``time.monotonic()`` after which no stage is begun or goes on.
        loads_only: leave out everything but loads.
    """

    def __init__(
        self,
        plan: LoadedPlan,
        folder: CaptureFolder,
        start: StartEngine,
        progress: Progress,
        clock: CaptureClock,
        sampler: DeviceSampler,
        *,
        deadline: float = float("inf"),
        loads_only: bool = False,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._start = start
        self._progress = progress
        self._clock = clock
        self._sampler = sampler
        self._deadline = deadline
        self._loads_only = loads_only
        self.not_ok: list[str] = []
        """Engine and stage of what failed or was left out."""
        self.interrupted = False
        self._stop = asyncio.Event()

    def interrupt(self) -> None:
        """End soon; the stage at hand is kept as interrupted."""
        self._stop.set()

    async def run(self) -> None:
        """All engines that have something left to do."""
        for engine in self._plan.plan.engines:
            if self._all_done(engine):
                self._progress.say(f"engine {engine.name}: all stages are there")
                continue
            if time.monotonic() > self._deadline:
                self._leave_out(engine.name, "time is up")
                continue
            self._progress.engine(engine.name)
            try:
                with self._start(engine) as running:
                    await self._run_engine(engine, running)
            except CaptureError as error:
                self._folder.note(str(error))
                self._leave_out(engine.name, str(error))
            if self.interrupted:
                return

    def _leave_out(self, what: str, why: str) -> None:
        self.not_ok.append(what)
        self._progress.say(f"{what}: {why}")

    def _groups(self, engine: PlannedEngine, facts: CapturedEngine) -> list[Group]:
        limits = limits_of(facts)
        groups: list[Group] = []
        for stage in engine.stages:
            if self._loads_only and not isinstance(stage, LoadStage):
                continue
            expanded = expand(stage, limits, self._plan.path.parent)
            if not expanded:
                self._folder.note(f"{engine.name}/{stage.name}: nothing of it fits into the engine")
            groups += expanded
        return groups

    def _all_done(self, engine: PlannedEngine) -> bool:
        before = [known for known in self._folder.manifest.engines if known.name == engine.name]
        done = self._folder.done(engine.name)
        return bool(before) and all(group[-1].name in done for group in self._groups(engine, before[-1]))

    async def _run_engine(self, engine: PlannedEngine, running: RunningEngine) -> None:
        facts = running.facts()
        if engine.vllm.get("async_scheduling") not in (None, facts.async_scheduling):
            self._folder.note(
                f"{engine.name}: async_scheduling {engine.vllm['async_scheduling']} was asked for, "
                f"the platform resolved {facts.async_scheduling}"
            )
        position = self._folder.add_engine(facts)
        vocab = self._plan.model.shape.vocab
        driver = Driver(
            running, self._clock, vocab, self._folder.num_requests, self._stop, self._progress.requests
        )
        done = self._folder.done(engine.name)
        # Every engine process is warmed up again.
        groups = [
            group
            for group in self._groups(engine, facts)
            if group[-1].purpose == "warmup" or group[-1].name not in done
        ]
        self._progress.stages(sum(len(group) for group in groups))
        self._sampler.take()
        for task in (task for group in groups for task in group):
            left_s = self._deadline - time.monotonic()
            if left_s < _RESERVE_S:
                self._leave_out(f"{engine.name}/{task.name}", "time is up")
                continue
            if running.died:
                self._leave_out(f"{engine.name}/{task.name}", "the engine died")
                continue
            self._progress.stage(task.name)
            result = await driver.run(task, min(task.timeout_s, left_s))
            self._keep(position, task, result)
            if self._stop.is_set():
                self.interrupted = True
                return

    def _keep(self, engine: int, task: Task, result: TaskResult) -> None:
        name = f"{self._folder.manifest.engines[engine].name}/{task.name}"
        stage = len(self._folder.manifest.stages)
        trace = result.steps
        if any(number < 0 for numbers in trace["requests"].to_pylist() for number in numbers):
            self._folder.note(f"{name}: the engine also served requests of others: its steps are left out")
            trace = trace.slice(0, 0)
        steps = step_rows(trace, engine, stage, self._clock)
        arrival_steps = {
            number: row["step"]
            for row in trace.select(["step", "arrived"]).to_pylist()
            for number in row["arrived"]
        }
        requests = request_rows(result.records, engine, stage, arrival_steps, self._clock)
        self._folder.add_stage(
            CapturedStage(
                engine=engine,
                name=task.name,
                kind=task.kind,
                purpose=task.purpose,
                regime=task.regime,
                repeat_of=task.repeat_of,
                status=result.status,
                start_us=result.start_us,
                end_us=result.end_us,
                plan=task.plan,
            ),
            {"steps": steps, "requests": requests, "device": self._sampler.take()},
        )
        if result.error:
            self._folder.note(f"{name}: {result.error}")
        if result.status != "ok":
            self.not_ok.append(name)
        seconds = (result.end_us - result.start_us) / 1e6
        self._progress.ended(task.name, result.status, seconds, steps.num_rows)


def step_rows(trace: pa.Table, engine: int, stage: int, clock: CaptureClock) -> pa.Table:
    """The rows of ``steps.parquet`` for a piece of a trace."""
    columns: dict[str, Any] = {
        "engine": pa.array([engine] * trace.num_rows, pa.int16()),
        "stage": pa.array([stage] * trace.num_rows, pa.int16()),
    }
    for name in STEPS.names[2:]:
        if name.endswith("_us"):
            values = trace[f"{name.removesuffix('_us')}_ns"].to_pylist()
            columns[name] = pa.array([clock.from_ns(value) for value in values], pa.int64())
        else:
            columns[name] = trace[name].cast(STEPS.field(name).type)
    return pa.table(columns, schema=STEPS)
