"""An engine for tests of the capture: it decodes one token of every request a step, and traces that."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa

from calibration.capture_format import CapturedEngine
from calibration.driver import Delivery, EngineTimes
from calibration.plan import LoadedPlan, PlannedEngine
from calibration.step_trace import StepTrace, TraceReader, request_name

BLOCK = 16


class FakeEngine:
    """Whole prompts in one step, no limits but the batch size; steps take no time."""

    def __init__(
        self, plan: LoadedPlan, engine: PlannedEngine, folder: Path, fail_at: int | None = None
    ) -> None:
        self._plan, self._planned, self._folder = plan, engine, folder
        self._trace = StepTrace(folder, {})
        self._reader = TraceReader(folder, skip_existing=True)
        self._waiting: deque[int] = deque()
        self._running: list[int] = []
        self._state: dict[int, list[int]] = {}  # computed, prompt, output so far, output wanted
        self._queues: dict[int, asyncio.Queue[Delivery | None]] = {}
        self._streams: dict[int, bool] = {}
        self._paused = False
        self._task: asyncio.Task[None] | None = None
        self._fail_at, self._steps = fail_at, 0
        self.died = False
        self.prompts: dict[int, list[int]] = {}

    def __enter__(self) -> "FakeEngine":
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()

    def facts(self) -> CapturedEngine:
        return CapturedEngine(
            name=self._planned.name,
            model=self._plan.model.name,
            shape=self._plan.model.shape,
            dtype="bfloat16",
            kv_cache_dtype="auto",
            tp=1,
            pp=1,
            num_gpu_blocks=201,
            block_size=BLOCK,
            max_model_len=512,
            max_num_batched_tokens=256,
            max_num_seqs=8,
            gpu_memory_utilization=0.9,
            enforce_eager=True,
            async_scheduling=False,
            enable_prefix_caching=True,
            scheduler={},
            compile_cache="none",
            startup=[],
            resolved={},
        )

    async def add(
        self, number: int, prompt: list[int], output_tokens: int, priority: int, *, stream: bool
    ) -> AsyncIterator[Delivery]:
        if self._task is None:
            self._task = asyncio.ensure_future(self._loop())
        self.prompts[number] = prompt
        self._state[number] = [0, len(prompt), 0, output_tokens]
        self._queues[number] = asyncio.Queue()
        self._streams[number] = stream
        self._waiting.append(number)
        self._trace.arrived(request_name(number))
        return self._deliveries(number)

    async def _deliveries(self, number: int) -> AsyncIterator[Delivery]:
        while (delivery := await self._queues[number].get()) is not None:
            yield delivery

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            if not self._paused and (self._waiting or self._running):
                self._step()
                if self._steps == self._fail_at:
                    self.died = True
                    return

    def _step(self) -> None:
        entered = []
        while self._waiting and len(self._running) < 8:
            entered.append(self._waiting.popleft())
            self._running.append(entered[-1])
        tokens = {n: max(1, self._state[n][1] - self._state[n][0]) for n in self._running}
        context = [self._state[n][0] for n in self._running]
        names = [request_name(n) for n in self._running]
        self._steps += 1
        self._trace.scheduled(
            self._steps,
            0,
            time.monotonic_ns(),
            {request_name(n): count for n, count in tokens.items()},
            ((names, context),),
            ([request_name(n) for n in entered],),
            [SimpleNamespace(request_id=name) for name in names],
            len(self._waiting),
            100,
        )
        self._trace.output(self._steps, time.monotonic_ns())
        for number in list(self._running):
            state = self._state[number]
            state[0] += tokens[number]
            state[2] += 1
            last = state[2] >= state[3]
            if self._streams[number]:
                self._queues[number].put_nowait(Delivery(1))
            if last:
                now = time.monotonic()
                whole = Delivery(0 if self._streams[number] else state[2], EngineTimes(now, now, now, now), 0)
                self._queues[number].put_nowait(whole)
                self._end(number)

    def _end(self, number: int) -> None:
        if number in self._running:
            self._running.remove(number)
        else:
            self._waiting.remove(number)
        self._trace.freed(request_name(number))
        self._queues[number].put_nowait(None)
        del self._state[number]

    async def pause(self) -> None:
        self._paused = True
        if not self._state:
            self._trace.flush()

    async def resume(self) -> None:
        self._paused = False

    async def abort(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number in self._state:
                self._end(number)

    def read_steps(self) -> pa.Table:
        return self._reader.read()
