"""Sends tasks to an engine and notes what came back and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from calibration.capture_format import REQUESTS
from calibration.clock import CaptureClock
from calibration.tasks import Beside, Burst, OpenLoad, Send, Task

_START_GAP_S: Final = 0.2
_SETTLE_S: Final = 0.05
_CHUNK: Final = 4096


class EngineTimes(NamedTuple):
    """An engine's own time stamps of a request, seconds of the monotonic clock; 0 is none."""

    queued_s: float = 0.0
    scheduled_s: float = 0.0
    first_token_s: float = 0.0
    last_token_s: float = 0.0


class Delivery(NamedTuple):
    """Something an engine delivered for a request.

    Attributes:
        tokens: new output tokens.
        cached_tokens: of the prompt, found in the prefix cache; None where unknown.
    """

    tokens: int
    times: EngineTimes | None = None
    cached_tokens: int | None = None


class EngineClient(Protocol):
    """What the driver needs of an engine."""

    async def add(
        self, number: int, prompt: list[int], output_tokens: int, priority: int, *, stream: bool
    ) -> AsyncIterator[Delivery]:
        """Send a request; without ``stream`` the end alone is delivered."""
        ...

    async def pause(self) -> None:
        """Schedule nothing from now on; where nothing is unfinished, have the trace written."""
        ...

    async def resume(self) -> None:
        """Go on; all requests added meanwhile wait for the next step."""
        ...

    async def abort(self, numbers: Iterable[int]) -> None: ...

    @property
    def died(self) -> bool: ...

    def read_steps(self) -> pa.Table:
        """Steps traced since the last call (`calibration.step_trace.TRACE`)."""
        ...


class Prompts:
    """Tokens of prompts: equal content ids give equal tokens, everything else is unique.

    Args:
        vocab: of the model; the first tokens, among them special ones, are not used.
    """

    def __init__(self, vocab: int) -> None:
        self._low = min(1000, vocab // 4)
        self._high = vocab
        self._streams: dict[int, list[int]] = {}

    def _draw(self, kind: int, number: int, count: int) -> list[int]:
        tokens: list[int] = (
            np.random.default_rng((kind, number)).integers(self._low, self._high, count).tolist()
        )
        return tokens

    def _stream(self, content: int, count: int) -> list[int]:
        known = self._streams.get(content, [])
        if len(known) < count:
            # A longer draw begins with the shorter one.
            known = self._streams[content] = self._draw(0, content, -(-count // _CHUNK) * _CHUNK)
        return known

    def tokens(self, number: int, send: Send) -> list[int]:
        """The prompt of a request."""
        prompt: list[int] = []
        for content, end in send.segments:
            prompt += self._stream(content, end)[len(prompt) : end]
        return prompt + self._draw(1, number, send.prompt_tokens - len(prompt))


@dataclass
class RequestRecord:
    """One row of ``requests.parquet`` in the making."""

    number: int
    send: Send
    submitted_us: int
    due_us: int | None = None
    status: str = "cut"
    times_us: list[int] = field(default_factory=list)
    output_tokens: int = 0
    engine_times: EngineTimes | None = None
    cached_tokens: int | None = None
    stream: bool = False


@dataclass
class TaskResult:
    """What a task came to.

    Attributes:
        status: of the stage.
        error: why, for status error.
        records: of its requests, by ascending number.
        steps: its trace.
    """

    status: str
    start_us: int
    end_us: int
    records: list[RequestRecord]
    steps: pa.Table
    error: str = ""
    most_late_us: int = 0


class Driver:
    """Runs tasks on one engine.

    Args:
        client: the engine.
        clock: of the capture.
        vocab: of the model.
        first_number: number of the next request.
        stop: when set, the task at hand ends as interrupted; what it had is kept.
        on_progress: called with the requests done and in all.
    """

    def __init__(
        self,
        client: EngineClient,
        clock: CaptureClock,
        vocab: int,
        first_number: int,
        stop: asyncio.Event,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._prompts = Prompts(vocab)
        self.next_number = first_number
        self._stop = stop
        self._on_progress = on_progress
        self._records: list[RequestRecord] = []
        self._live: dict[int, asyncio.Task[None]] = {}
        self._done = self._total = 0
        self._most_late_us = 0

    async def run(self, task: Task, timeout_s: float) -> TaskResult:
        """Run one task."""
        self._records, self._most_late_us = [], 0
        self._done, self._total = 0, sum(_num_requests(action) for action in task.actions)
        start_us = self._clock.now_us()
        body = asyncio.ensure_future(self._body(task))
        stopped = asyncio.ensure_future(self._stop.wait())
        status, error = "ok", ""
        try:
            deadline = time.monotonic() + timeout_s
            while not (body.done() or stopped.done() or self._client.died) and time.monotonic() < deadline:
                await asyncio.wait({body, stopped}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            if body.done():
                body.result()
            elif stopped.done():
                status = "interrupted"
            else:
                status = "error" if self._client.died else "timeout"
                error = "the engine died" if self._client.died else ""
        except Exception as failure:  # one stage's failure must not lose the others
            status, error = "error", f"{type(failure).__name__}: {failure}"
        body.cancel()
        stopped.cancel()
        await asyncio.wait({body}, timeout=5)
        steps = await self._clean_up(status)
        return TaskResult(
            status, start_us, self._clock.now_us(), self._records, steps, error, self._most_late_us
        )

    async def _clean_up(self, status: str) -> pa.Table:
        """Nothing is left in the engine; its trace is written."""
        if not self._client.died:
            try:
                if self._live:
                    await asyncio.wait_for(self._abort(list(self._live), "cut"), 20)
                if status != "ok":
                    await asyncio.sleep(0.3)  # the engine frees what was aborted
                await asyncio.wait_for(self._client.pause(), 60)
                await asyncio.wait_for(self._client.resume(), 20)
            except Exception:  # the engine is beyond help: the trace has what was written
                pass
        for consumer in self._live.values():
            consumer.cancel()
        self._live.clear()
        return self._client.read_steps()

    async def _body(self, task: Task) -> None:
        for action in task.actions:
            match action:
                case Burst(sends):
                    await self._burst(sends)
                case Beside():
                    await self._beside(action)
                case OpenLoad(arrivals):
                    await self._open_load(arrivals)

    async def _send(
        self, send: Send, *, stream: bool = False, due_us: int | None = None, prompt: list[int] | None = None
    ) -> int:
        number = self.next_number
        self.next_number += 1
        tokens = self._prompts.tokens(number, send) if prompt is None else prompt
        record = RequestRecord(number, send, self._clock.now_us(), due_us, stream=stream)
        self._records.append(record)
        deliveries = await self._client.add(number, tokens, send.output_tokens, send.priority, stream=stream)
        self._live[number] = asyncio.ensure_future(self._consume(record, deliveries))
        return number

    async def _consume(self, record: RequestRecord, deliveries: AsyncIterator[Delivery]) -> None:
        async for delivery in deliveries:
            if delivery.tokens > 0:
                record.times_us.append(self._clock.now_us())
            record.output_tokens += delivery.tokens
            if delivery.times is not None:
                record.engine_times = delivery.times
            if delivery.cached_tokens is not None:
                record.cached_tokens = delivery.cached_tokens
        if record.output_tokens >= record.send.output_tokens:
            record.status = "finished"
        self._live.pop(record.number, None)
        self._done += 1
        self._on_progress(self._done, self._total)

    async def _abort(self, numbers: Sequence[int], status: str) -> None:
        for record in self._records:
            if record.number in self._live and record.number in numbers:
                record.status = status
        await self._client.abort(numbers)
        consumers = [self._live.pop(number) for number in numbers if number in self._live]
        await asyncio.wait(consumers, timeout=5)
        for consumer in consumers:
            consumer.cancel()

    async def _burst(self, sends: Sequence[Send]) -> None:
        if len(sends) == 1:
            numbers = [await self._send(sends[0])]
        else:
            numbers = await self._together(sends)
        await self._ended(numbers)

    async def _together(self, sends: Sequence[Send]) -> list[int]:
        # Prompts are made before: the engine must not wait for it while paused.
        numbers = range(self.next_number, self.next_number + len(sends))
        prompts = [self._prompts.tokens(number, send) for number, send in zip(numbers, sends, strict=True)]
        await self._client.pause()
        try:
            return [
                await self._send(send, prompt=prompt) for send, prompt in zip(sends, prompts, strict=True)
            ]
        finally:
            await self._client.resume()

    async def _ended(self, numbers: Iterable[int]) -> None:
        consumers = [self._live[number] for number in numbers if number in self._live]
        if consumers:
            await asyncio.gather(*consumers)

    async def _beside(self, action: Beside) -> None:
        decodes = await self._together(action.decodes)
        await asyncio.sleep(_SETTLE_S)  # the first chunk must not share a step with their prompts
        for send in action.chunks:
            await self._ended([await self._send(send)])
        await self._abort([number for number in decodes if number in self._live], "aborted")

    async def _open_load(self, arrivals: Sequence[tuple[int, Send]]) -> None:
        first = self.next_number
        prompts = [self._prompts.tokens(first + place, send) for place, (_, send) in enumerate(arrivals)]
        zero_us = self._clock.now_us() + round(_START_GAP_S * 1e6)
        numbers = []
        for (at_us, send), prompt in zip(arrivals, prompts, strict=True):
            due_us = zero_us + at_us
            wait_us = due_us - self._clock.now_us()
            if wait_us > 0:
                await asyncio.sleep(wait_us / 1e6)
            numbers.append(await self._send(send, stream=True, due_us=due_us, prompt=prompt))
            self._most_late_us = max(self._most_late_us, self._records[-1].submitted_us - due_us)
        await self._ended(numbers)


def _num_requests(action: Burst | Beside | OpenLoad) -> int:
    match action:
        case Burst(sends):
            return len(sends)
        case Beside(decodes, chunks):
            return len(decodes) + len(chunks)
        case OpenLoad(arrivals):
            return len(arrivals)


def request_rows(
    records: Sequence[RequestRecord],
    engine: int,
    stage: int,
    arrival_steps: dict[int, int],
    clock: CaptureClock,
) -> pa.Table:
    """The rows of ``requests.parquet`` of a stage, by ascending number.

    Args:
        records: of the stage.
        engine: position in the manifest.
        stage: position in the manifest.
        arrival_steps: by request number; absent where the trace has none.
        clock: of the capture.
    """

    def stamp(seconds: float) -> int | None:
        return clock.from_s(seconds) if seconds else None

    rows: list[dict[str, Any]] = []
    for record in sorted(records, key=lambda r: r.number):
        times = record.times_us
        engine_times = record.engine_times or EngineTimes()
        rows.append(
            {
                "engine": engine,
                "stage": stage,
                "arrival_step": arrival_steps.get(record.number),
                "prompt_tokens": record.send.prompt_tokens,
                "max_tokens": record.send.output_tokens,
                "priority": record.send.priority,
                "segment_ids": [content for content, _ in record.send.segments],
                "segment_ends": [end for _, end in record.send.segments],
                "due_us": record.due_us,
                "submitted_us": record.submitted_us,
                "queued_us": stamp(engine_times.queued_s),
                "scheduled_us": stamp(engine_times.scheduled_s),
                "engine_first_token_us": stamp(engine_times.first_token_s),
                "engine_last_token_us": stamp(engine_times.last_token_s),
                "first_token_us": times[0] if times and record.stream else None,
                "last_token_us": times[-1] if times else None,
                "token_gaps_us": [b - a for a, b in pairwise(times)],
                "output_tokens": record.output_tokens,
                "cached_tokens": record.cached_tokens,
                "status": record.status,
            }
        )
    return pa.Table.from_pylist(rows, schema=REQUESTS)
