"""What the skipping engine's scheduler knows, and what outputs and aborts change in it.

The rules of `schedule` are in `simulator.engines.vllm.skipping_scheduler`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.decode_set import DecodeSet
from simulator.engines.vllm.gaps import DecodeGaps
from simulator.engines.vllm.request_queue import FCFSQueue, PriorityQueue, RequestQueue
from simulator.engines.vllm.sequence import DECODING, FINISHED, PREFILLING, WAITING, Batch, Sequence
from simulator.kv_cache.content import ContentPool

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer where compiled

NOBODY: Final[list[Sequence]] = []
NO_PREFILLS: Final[list[tuple[int, int]]] = []

_ORDER: Final = attrgetter("order")


class SchedulerState:
    """The requests of one engine, by where they are.

    Args:
        config: the engine's settings.
        gaps: of the requests that decode.

    Attributes:
        running: the running batch in order (a dict without values).
        waiting: requests that wait for admission.
        num_waiting: how many.
        in_flight: batches scheduled and not yet processed, the oldest first; at most 2.
        decoding: the requests that decode.
        step, output: numbers of the last schedule and of the last output.
        decode_requests, decode_context_tokens, longest_context_tokens, prefills: what the last schedule
            computes: requests with one token behind a full context, those contexts summed, the longest of them,
            (tokens, context before) of all others.
        admitted, preempted: by the last schedule, in order.
        prefix_cache_queries, prefix_cache_hits: tokens looked up and found at first admissions.
    """

    def __init__(self, config: EngineConfig, gaps: DecodeGaps) -> None:
        self.config = config
        self._gaps = gaps
        self._rules = config.rules
        self._max_running: i64 = config.max_num_active_seqs or config.max_num_seqs
        self._block_size: i64 = config.block_size
        self._max_in_flight: i64 = 2 if config.async_scheduling else 1
        self.pool = ContentPool(
            config.num_gpu_blocks, config.block_size, config.enable_prefix_caching, config.watermark
        )
        self.running: dict[Sequence, None] = {}
        self.waiting: RequestQueue[Sequence] = FCFSQueue() if config.policy == "fcfs" else PriorityQueue()
        self.in_flight: list[Batch] = []
        self.decoding = DecodeSet(config.block_size, config.async_scheduling)
        self.step: i64 = 0
        self.output: i64 = 0
        self.num_waiting: i64 = 0
        self.decode_requests: i64 = 0
        self.decode_context_tokens: i64 = 0
        self.longest_context_tokens: i64 = 0
        self.prefills: list[tuple[int, int]] = []
        self.admitted: list[Sequence] = NOBODY
        self.preempted: list[Sequence] = NOBODY
        self.prefix_cache_queries = 0
        self.prefix_cache_hits = 0
        self._prefilling: list[Sequence] = []
        self._num_admitted: i64 = 0
        self._finished_since_schedule = False
        self._blocked = False
        # Blocks that decoding took up to this step have left the pool; those of later steps are still to.
        self._settled: i64 = 0

    @property
    def has_requests(self) -> bool:
        """Whether vLLM's engine loop calls ``schedule``: also once after the last request has left."""
        return bool(self.running or self.num_waiting or self._finished_since_schedule)

    def add_request(self, seq: Sequence) -> None:
        """Put a request into the waiting queue."""
        seq.status = WAITING
        self.waiting.add(seq)
        self.num_waiting += 1

    def skip_aborted(self) -> None:
        """A request was aborted before any schedule could see it."""
        self._finished_since_schedule = True

    # --- stretches --------------------------------------------------------------------------------------

    def admits(self) -> bool:
        """Whether a schedule must look at a new request: it is not behind one that is blocked."""
        if len(self.running) >= self._max_running:
            return False
        if not self.num_waiting:
            return True
        return self.config.policy == "priority" or not self._blocked

    def quiet_rounds(self) -> i64:
        """How many rounds of output and schedule from now on only decode, if nothing comes from outside."""
        decoding, in_flight = self.decoding, self.in_flight
        n = decoding.n
        if not n or self._prefilling or len(in_flight) != self._max_in_flight:
            return 0
        oldest = in_flight[0]
        if oldest.entries or not oldest.num_scheduled:
            return 0
        step = self.step
        rounds = decoding.finish_keys[0] - self.output - 1
        if rounds > 1 and in_flight[-1].entries:
            rounds = 1
        if decoding.last_keys and decoding.last_keys[0] - step <= rounds:
            rounds = decoding.last_keys[0] - step - 1
        if self.num_waiting and len(self.running) < self._max_running:
            # A schedule that looks a blocked head up again may count it again.
            if not self._blocked or (self._rules.lookups_are_queries and self.config.enable_prefix_caching):
                return 0
            if decoding.cachings:
                rounds = min(rounds, decoding.cachings[0][0] - step - 1)
        if rounds <= 0:
            return 0
        if self.pool.num_free < n * ((step - self._settled + rounds) // self._block_size + 1):
            self.settle(step)
            return min(rounds, decoding.steps_within(step + 1, self.pool.num_free))
        return rounds

    def only_passes_over(self, rounds: i64) -> bool:
        """Whether the round after so many quiet ones is quiet but for requests whose last token is in flight.

        They leave the batch, which nobody sees before their last token comes with the next output.
        """
        decoding = self.decoding
        last_keys = decoding.last_keys
        if not last_keys or last_keys[0] != self.step + rounds + 1:
            return False
        if decoding.finish_keys[0] <= self.output + rounds + 1 or (self.in_flight[-1].entries and rounds):
            return False
        if self.num_waiting and len(self.running) < self._max_running:
            return False
        steps = self.step - self._settled + rounds + 1
        if self.pool.num_free < decoding.n * (steps // self._block_size + 1):
            return False
        return decoding.n > decoding.passed_over(last_keys[0])[0]

    def skip(self, rounds: i64) -> None:
        """Do as many quiet rounds; the caller renews ``in_flight``."""
        self.step += rounds
        self.output += rounds
        if self.decoding.cachings:
            self._cache_decoded()

    def settle(self, step: i64) -> None:
        """Take the blocks from the pool that decoding has taken up to ``step``."""
        steps = step - self._settled
        if steps:
            need = self.decoding.blocks_needed(self._settled + 1, steps)
            if need:
                self.pool.take(need)
            self._settled = step

    def blocks_used(self, rounds: i64) -> i64:
        """Blocks that requests hold after so many quiet rounds more."""
        pool = self.pool
        steps = self.step - self._settled + rounds
        return pool.num_usable - pool.num_free + self.decoding.blocks_needed(self._settled + 1, steps)

    def _cache_decoded(self) -> None:
        for seq, num_full in self.decoding.cached_up_to(self.step):
            self.pool.cache_shared(seq, num_full)

    def _leave_decoding(self, seq: Sequence, *, keeps_tokens: bool) -> None:
        """Take a request out of the sums: it is preempted, aborted, or short of budget.

        Args:
            seq: a request that decodes, or whose last token is in flight.
            keeps_tokens: whether its tokens in flight will be delivered.
        """
        decoding = self.decoding
        output = self.output
        if output >= seq.joined:
            seq.known = seq.base + output + 1
            seq.last_token_ps = self._gaps.last_output_ps
            seq.max_gap_ps = max(seq.max_gap_ps, self._gaps.max_since(seq.joined))
        last_step = self.step
        if seq.status == DECODING:
            decoding.leave(seq)
        else:
            last_step = seq.finish_at
        for number, batch in enumerate(self.in_flight, output + 1):
            if seq.joined < number <= last_step:
                batch.drop(seq.workload)
                if keeps_tokens:
                    batch.entries = sorted([*batch.entries, seq], key=_ORDER)
        seq.finish_at = 0

    # --- output -----------------------------------------------------------------------------------------

    def update(self, entries: list[Sequence] | tuple[()]) -> list[tuple[Sequence, bool, bool]]:
        """Process the output of the batch that was taken from ``in_flight``.

        Args:
            entries: those of the batch.

        Returns:
            In order, whom the output concerns more than by one token of a decode: (request, whether it
            takes its token from here, whether it ends).
        """
        output = self.output = self.output + 1
        decoding = self.decoding
        concerned: list[tuple[Sequence, bool, bool]] = []
        finish_keys = decoding.finish_keys
        ends_any = False
        if finish_keys and finish_keys[0] <= output:
            for seq in decoding.finishing(output):
                if seq.joined < output:
                    concerned.append((seq, False, True))
                    ends_any = True
        for seq in entries:
            if seq.status == FINISHED:
                continue
            seq.known += 1
            ends = seq.known >= seq.final_tokens
            ends_any |= ends
            concerned.append((seq, True, ends))
            if seq.status == PREFILLING:
                ends_any = True  # it may cache a block
        if ends_any:
            self.settle(self.step)
            if len(concerned) > 1:
                concerned.sort(key=lambda c: c[0].order)
            for seq, _, ends in concerned:
                if seq.status == PREFILLING and self.config.async_scheduling:
                    seq.cached = max(seq.cached, (seq.known - 1) // self._block_size)
                    self.pool.cache_shared(seq, seq.cached)
                if ends:
                    self._finish(seq)
        return concerned

    def _finish(self, seq: Sequence) -> None:
        block_size = self._block_size
        status = seq.status
        if status == WAITING:
            self.waiting.remove(seq)
            self.num_waiting -= 1
        else:
            if status == DECODING:
                computed = seq.base + self.step
                self.decoding.leave(seq)
                for number, batch in enumerate(self.in_flight, self.output + 1):
                    if number > seq.joined:
                        batch.drop(seq.workload)
            else:
                computed = seq.computed
                if status == PREFILLING:
                    self._prefilling.remove(seq)
            cached = (seq.final_tokens - 1) // block_size
            if seq.num_shareable:
                self.pool.cache_shared(seq, cached)
            self.pool.release(seq, -(-computed // block_size), cached, returns=False)
            del self.running[seq]
        seq.status = FINISHED
        self._finished_since_schedule = True

    def abort(self, seq: Sequence) -> None:
        """Drop a request wherever it is; its output in flight will be ignored."""
        self.settle(self.step)
        block_size = self._block_size
        status = seq.status
        if status == WAITING:
            self.waiting.remove(seq)
            self.num_waiting -= 1
        else:
            if status == PREFILLING:
                self._prefilling.remove(seq)
                computed, cached = seq.computed, seq.cached
            else:
                scheduled = status == DECODING
                cached = max(seq.cached, (seq.base + self.output + scheduled) // block_size)
                computed = seq.base + self.step if scheduled else seq.computed
                self._leave_decoding(seq, keeps_tokens=False)
            self.pool.release(seq, -(-computed // block_size), cached, returns=False)
            del self.running[seq]
        seq.status = FINISHED
        self._finished_since_schedule = True
        self._blocked = False
