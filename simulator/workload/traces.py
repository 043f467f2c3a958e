"""Replay of a trace: its rows, with time and rate scaled, as requests."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from simulator.engines.protocol import ContentSegments
from simulator.scenario.arrivals import TraceArrivals
from simulator.units import to_ps
from simulator.workload.entry import Entry
from simulator.workload.request import TRACE_BLOCK, RequestSpec, content_id
from simulator.workload.sampling import BlockDraws
from simulator.workload.trace_readers import MOONCAKE_BLOCK_TOKENS, TraceRow, read_trace

_BLOCK = 1024


class TraceReplay:
    """The requests of a trace.

    Rows at one timestamp form a batch. With ``spread`` a batch is placed at random, in its order, over that
    time. With ``rate_scale`` f each row is sent floor(f) times, and once more with the probability of the
    rest; the further copies fall evenly at random before the next timestamp (or in the spread), and have
    prompts of their own, which share prefixes among themselves as the originals do.
    """

    def __init__(self, entry: Entry, trace: TraceArrivals, base_dir: Path) -> None:
        self._entry = entry
        self._trace = trace
        self._base_dir = base_dir
        self._copies = math.ceil(trace.rate_scale)
        self._number = BlockDraws(entry.draws, entry.purpose("copies"), _BLOCK)
        self._place = BlockDraws(entry.draws, entry.purpose("offset"), _BLOCK)
        self._block_tokens = (
            MOONCAKE_BLOCK_TOKENS if trace.format == "mooncake" else trace.prefix_block_tokens or 1
        )

    def after(self, spec: RequestSpec, end_ps: int, succeeded: bool) -> RequestSpec | None:
        return None

    def arrivals(self) -> Iterator[RequestSpec]:
        plain = not self._trace.spread and self._trace.rate_scale == 1.0
        for time_ps, index, copy, row in self._in_file_order() if plain else self._placed():
            arrival_ps = self._entry.start_ps + time_ps
            if arrival_ps >= self._entry.end_ps:
                return
            yield self._spec(arrival_ps, index, copy, row)

    def _rows(self) -> Iterator[tuple[int, TraceRow]]:
        """(time in the run's scale from the trace's start, row)."""
        start_ps, scale = to_ps(self._trace.start), self._trace.time_scale
        rows = (
            row
            for row in read_trace(self._trace, self._base_dir, f"{self._entry.key}.arrivals")
            if row.time_ps >= start_ps
        )
        for row in islice(rows, self._trace.limit):
            since = row.time_ps - start_ps
            yield (since if scale == 1.0 else round(since * scale)), row

    def _in_file_order(self) -> Iterator[tuple[int, int, int, TraceRow]]:
        for index, (time_ps, row) in enumerate(self._rows()):
            yield time_ps, index, 0, row

    def _placed(self) -> Iterator[tuple[int, int, int, TraceRow]]:
        """Rows and their copies in time order; the heap holds no more than what the spread lets overlap."""
        spread_ps = round(to_ps(self._trace.spread) * self._trace.time_scale)
        heap: list[tuple[int, int, int, TraceRow]] = []
        for first, time_ps, batch, next_ps in self._batches():
            window_ps = spread_ps or next_ps - time_ps
            offsets = sorted(
                int(self._place.words(first + i)[0] * spread_ps)
                for i in range(len(batch) if spread_ps else 0)
            )
            for i, row in enumerate(batch):
                index = first + i
                for copy in range(int(self._trace.rate_scale + self._number.words(index)[0])):
                    if copy:
                        offset = int(self._place.words(index, copy)[0] * window_ps)
                    else:
                        offset = offsets[i] if spread_ps else 0
                    heapq.heappush(heap, (time_ps + offset, index, copy, row))
            while heap and heap[0][0] < next_ps:
                yield heapq.heappop(heap)
        while heap:
            yield heapq.heappop(heap)

    def _batches(self) -> Iterator[tuple[int, int, list[TraceRow], int]]:
        """(index of the first row, time, rows at that time, time of the next batch)."""
        first, time_ps = 0, 0
        batch: list[TraceRow] = []
        for now_ps, row in self._rows():
            if batch and now_ps != time_ps:
                yield first, time_ps, batch, now_ps
                first += len(batch)
                batch = []
            time_ps = now_ps
            batch.append(row)
        if batch:
            yield first, time_ps, batch, time_ps

    def _spec(self, arrival_ps: int, index: int, copy: int, row: TraceRow) -> RequestSpec:
        request_id = self._entry.global_id(index * self._copies + copy)
        return RequestSpec(
            request_id,
            self._entry.index,
            arrival_ps,
            row.input_tokens,
            row.output_tokens,
            self._entry.max_tokens(row.output_tokens),
            self._segments(row, copy) if row.block_ids else (),
            self._entry.config.priority,
            request_id,
            0,
        )

    def _segments(self, row: TraceRow, copy: int) -> ContentSegments:
        size, count = self._block_tokens, len(row.block_ids)
        # The id of a block is linear in its number, and only the last block may be cut.
        first = content_id(self._entry.index, TRACE_BLOCK, copy)
        step = content_id(self._entry.index, TRACE_BLOCK, copy + self._copies) - first
        ends = [*range(size, size * count, size), min(size * count, row.input_tokens)]
        return tuple(zip([first + step * block for block in row.block_ids], ends, strict=True))
