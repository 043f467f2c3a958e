"""vLLM's own scheduler and engine loop on a virtual clock, with a model that only takes time.

The real ``EngineCore.step`` and ``step_with_batch_queue`` drive the real ``Scheduler`` or
``AsyncScheduler`` with its KV cache manager. Only three things are stand-ins: the executor, whose batches
last as long as the schedule's step time says; the tokens, which spell the content of the request's segments,
with drafts of which as many are accepted as the schedule says; and the loop around (``run_busy_loop``, input
queue, 1 ms sleep), which here reads a virtual clock. The front end's limits are decided by vLLM's
``AsyncLLM.check_admission``. Works with vLLM 0.26.0 and 0.32.0, whose compiled parts are not needed.
"""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

from simulator.engines.protocol import EngineRequest
from simulator.engines.vllm.plain import EMPTY_LOOP_SLEEP_PS, StepRecord
from validation.decisions import Decisions
from validation.schedules import Schedule
from validation.vllm_install import EOS, make_scheduler

MAX_IDLE_LOOPS = 10_000
"""Loops of the engine core without a scheduled request after which it is taken to be stuck."""


def _token(request: EngineRequest, position: int) -> int:
    """The token that spells the content at a position; never the EOS token."""
    for content, end in request.segments:
        if position < end:
            return (content * 1_000_003 + position * 31) % 2_000_000_011 + 3
    return ((request.request_id + 500_000) * 1_000_003 + position * 31) % 2_000_000_011 + 3


class _Future:
    """Result of a batch: waiting for it moves the clock to its end."""

    def __init__(
        self, run: OracleRun, output: Any, end_ps: int, samples: dict[str, bool], drafts: dict[str, int]
    ) -> None:
        self.run = run
        self.output = output
        self.end_ps = end_ps
        self.samples = samples
        self.drafts = drafts

    def result(self) -> Any:
        from vllm.v1.outputs import ModelRunnerOutput  # noqa: PLC0415

        run = self.run
        run.now = max(run.now, self.end_ps)
        for time_ps, name, request in run.events[run.next_event :]:
            if time_ps <= run.now and request is None:
                run.core.aborts_queue.put([name])
        ids = list(self.output.num_scheduled_tokens)
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={name: i for i, name in enumerate(ids)},
            sampled_token_ids=[
                run.next_tokens(name, self.drafts[name]) if self.samples[name] else [] for name in ids
            ],
        )


class OracleRun:
    """One schedule through vLLM.

    Attributes:
        steps: every call of ``schedule``, as our engine reports it.
        outputs: (time in ps, request id, ``first`` or the finish reason) in order.
        refused: (time in ps, request id, ``queue_full``) in order.
        prefix_queries, prefix_hits: what ``vllm:prefix_cache_queries`` and ``_hits`` would say.
    """

    def __init__(self, schedule: Schedule) -> None:
        from vllm.utils.hashing import get_hash_fn_by_name  # noqa: PLC0415
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash  # noqa: PLC0415
        from vllm.v1.engine.core import EngineCore  # noqa: PLC0415

        class Core(EngineCore):  # type: ignore[misc]  # vLLM may not be installed
            """The engine core without its start-up; aborts are applied in the order in which they came."""

            def __init__(self) -> None:
                pass

            def _process_aborts_queue(self) -> None:
                while not self.aborts_queue.empty():
                    self.abort_requests(self.aborts_queue.get_nowait())

        self.schedule = schedule
        self.acceptance = schedule.make_acceptance()
        self.now = 0
        self.gpu_free_ps = 0
        self.steps: list[StepRecord] = []
        self.outputs: list[tuple[int, int, str]] = []
        self.requests = {str(r.request_id): r for _, r in schedule.arrivals}
        self.events: list[tuple[int, str, EngineRequest | None]] = sorted(
            [(t, str(r.request_id), r) for t, r in schedule.arrivals]
            + [(t, str(i), None) for t, i in schedule.aborts],
            key=lambda event: (event[0], event[2] is None),
        )
        self.next_event = 0
        self.refused: list[tuple[int, int, str]] = []
        self.preempted: list[int] = []
        self.seen: set[int] = set()
        self.taken: set[str] = set()
        self.new_names: set[str] = set()
        self.first_ps: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self.hasher = None
        if schedule.config.enable_prefix_caching:
            hash_fn = get_hash_fn_by_name("sha256")
            init_none_hash(hash_fn)
            self.hasher = get_request_block_hasher(schedule.config.block_size, hash_fn)

        core: Any = Core()
        import queue  # noqa: PLC0415

        core.scheduler = self.scheduler = make_scheduler(schedule.config)
        core.vllm_config = self.scheduler.vllm_config
        core.log_stats = False
        core.batch_queue_size = 2 if schedule.config.async_scheduling else 1
        core.batch_queue = deque(maxlen=2) if schedule.config.async_scheduling else None
        core.is_mm_encoder_only = core.is_pooling_model = False
        core.is_ec_consumer = True
        core.async_scheduling = schedule.config.async_scheduling
        core.check_for_draft_tokens = schedule.config.num_speculative_tokens > 0
        core.aborts_queue = queue.Queue()
        core._weight_version = None
        core.model_executor = SimpleNamespace(
            execute_model=self._execute, sample_tokens=self._sample, take_draft_token_ids=self._draft
        )
        self.core = core
        self._last_future: _Future | None = None

        preempt = self.scheduler._preempt_request

        def record_preemption(request: Any, *args: Any, **kwargs: Any) -> None:
            self.preempted.append(int(request.request_id))
            preempt(request, *args, **kwargs)

        self.scheduler._preempt_request = record_preemption

        self.prefix_queries = self.prefix_hits = 0
        self._watch_rare_events()
        manager = self.scheduler.kv_cache_manager
        take_stats = manager.make_prefix_cache_stats

        def record_stats() -> Any:
            stats = take_stats()
            if stats is not None:
                self.prefix_queries += stats.queries
                self.prefix_hits += stats.hits
            return stats

        manager.make_prefix_cache_stats = record_stats

    def _watch_rare_events(self) -> None:
        """Set marks (see `validation.coverage`) where the steps do not show what happened."""
        self.marks: set[str] = set()
        pool = self.scheduler.kv_cache_manager.block_pool
        evict = pool._maybe_evict_cached_block
        cached = pool.cached_block_hash_to_block
        insert = cached.insert
        finish = self.scheduler.finish_requests
        queue = getattr(self.scheduler, "skipped_waiting", self.scheduler.waiting)
        requeue = queue.prepend_requests

        def watched_evict(block: Any) -> bool:
            evicted = bool(evict(block))
            if evicted:
                self.marks.add("eviction")
            return evicted

        def watched_insert(key: Any, block: Any) -> None:
            if cached.get_one_block(key) is not None:
                self.marks.add("content held twice")
            insert(key, block)

        def watched_finish(names: Any, status: Any) -> Any:
            for name in [names] if isinstance(names, str) else names:
                state = self.scheduler.requests.get(name)
                if name in self.new_names:
                    self.marks.add("abort before it was seen")
                elif state is not None:
                    self.marks.add(f"abort while {state.status.name.lower()}")
            return finish(names, status)

        def watched_requeue(requests: Any) -> None:
            if self.schedule.config.max_loras is not None:
                self.marks.add("adapter over max_loras")
            requeue(requests)

        pool._maybe_evict_cached_block = watched_evict
        cached.insert = watched_insert
        self.scheduler.finish_requests = watched_finish
        queue.prepend_requests = watched_requeue

    def next_tokens(self, name: str, drafts: int) -> list[int]:
        """What the model would sample: the accepted drafts and one token more."""
        state = self.scheduler.requests.get(name)
        if state is None:
            return [3]
        request = self.requests[name]
        known = state.num_tokens
        count = 1
        if drafts:
            assert self.acceptance is not None
            count += self.acceptance.accepted(request.request_id, known - request.prompt_tokens, drafts)
            if count > 1:
                self.marks.add("draft accepted")
            if count <= drafts:
                self.marks.add("draft rejected")
        tokens = [_token(request, position) for position in range(known, known + count)]
        last = request.prompt_tokens + request.output_tokens - 1
        if request.output_tokens < request.max_tokens and known <= last < known + count:
            tokens[last - known] = EOS
        return tokens

    def _execute(self, output: Any, non_block: bool = True) -> _Future:
        scheduler = self.scheduler
        tokens = output.num_scheduled_tokens
        states = {name: scheduler.requests[name] for name in tokens}
        context = {name: s.num_computed_tokens - tokens[name] for name, s in states.items()}
        samples = {name: not s.is_prefill_chunk for name, s in states.items()}
        admitted = {r.req_id for r in output.scheduled_new_reqs}
        admitted |= set(output.scheduled_cached_reqs.resumed_req_ids)
        self.steps.append(
            StepRecord(
                time_ps=self.now,
                scheduled=[(int(name), n, context[name]) for name, n in tokens.items()],
                admitted=[(int(name), context[name]) for name in tokens if name in admitted],
                preempted=self.preempted,
                running=[int(r.request_id) for r in scheduler.running],
                num_waiting=scheduler.get_request_counts()[1],
                num_free_blocks=scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
            )
        )
        self.preempted = []
        end_ps = self._batch_end(tokens, context, samples)
        padded = {r.req_id for r in output.scheduled_new_reqs} | set(
            output.scheduled_cached_reqs.resumed_req_ids
        )
        drafts = {
            name: 0 if name in padded else len(output.scheduled_spec_decode_tokens.get(name, ()))
            for name in tokens
        }
        self._last_batch = list(tokens)
        self._last_future = _Future(self, output, end_ps, samples, drafts)
        return self._last_future

    def _batch_end(self, tokens: dict[str, int], context: dict[str, int], samples: dict[str, bool]) -> int:
        if not tokens:
            return max(self.now, self.gpu_free_ps)
        decodes = [name for name, n in tokens.items() if n == 1 and samples[name]]
        prefills = [(n, context[name]) for name, n in tokens.items() if n > 1 or not samples[name]]
        times = self.schedule.step_time
        contexts = [context[name] for name in decodes]
        spread = len(contexts) * max(contexts, default=0) - sum(contexts)
        gpu_ps = times.step_ps(len(decodes), sum(contexts), prefills, spread)
        host_ps = times.host_ps(len(tokens))
        if self.now < self.gpu_free_ps:
            self.gpu_free_ps += max(gpu_ps, host_ps)
        else:
            self.gpu_free_ps = self.now + gpu_ps + host_ps
        return self.gpu_free_ps

    def _sample(self, grammar_output: Any, non_block: bool = False) -> Any:
        return self._last_future

    def _draft(self) -> Any:
        from vllm.v1.outputs import DraftTokenIds  # noqa: PLC0415

        drafts = [3] * self.schedule.config.num_speculative_tokens
        return DraftTokenIds(list(self._last_batch), [list(drafts) for _ in self._last_batch])

    def _refused(self, now: int) -> bool:
        """Whether vLLM's front end answers 503 to a request that arrives now."""
        if self.schedule.config.rules.missing_settings:
            return False
        from vllm.exceptions import MaxQueuedTokensError, QueueOverflowError  # noqa: PLC0415
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

        # The front end counts what it has heard of: outputs at this very instant come after.
        ended = {name for name, t in self.ended.items() if t < now}
        prefilling = {name for name in self.taken - ended if self.first_ps.get(name, now) >= now}
        front_end = SimpleNamespace(
            scheduler_config=self.scheduler.scheduler_config,
            admission_stats=None,
            logger_manager=None,
            get_num_unfinished_requests=lambda: len(self.taken - ended),
            get_num_queued_tokens=lambda: sum(self.requests[name].prompt_tokens for name in prefilling),
        )
        front_end._record_admission_rejection = lambda reason: None
        try:
            AsyncLLM.check_admission(front_end)
        except (QueueOverflowError, MaxQueuedTokensError):
            return True
        return False

    def _lora(self, adapter: int | None) -> Any:
        from vllm.lora.request import LoRARequest  # noqa: PLC0415

        return None if adapter is None else LoRARequest(f"adapter{adapter}", adapter + 1, "/adapter")

    def _take_input(self) -> None:
        from vllm.sampling_params import SamplingParams  # noqa: PLC0415
        from vllm.v1.request import Request  # noqa: PLC0415

        while self.next_event < len(self.events) and self.events[self.next_event][0] <= self.now:
            t, name, request = self.events[self.next_event]
            self.next_event += 1
            if request is None:
                self.core.abort_requests([name])
                self.ended.setdefault(name, -1)
                continue
            if self._refused(t):
                self.refused.append((t, request.request_id, "queue_full"))
                continue
            self.taken.add(name)
            self.new_names.add(name)
            params = SamplingParams(
                max_tokens=request.max_tokens, ignore_eos=True, stop_token_ids=[EOS], temperature=0.0
            )
            self.scheduler.add_request(
                Request(
                    request_id=name,
                    prompt_token_ids=[_token(request, p) for p in range(request.prompt_tokens)],
                    sampling_params=params,
                    pooling_params=None,
                    arrival_time=float(request.request_id),
                    priority=request.priority,
                    lora_request=self._lora(request.lora),
                    block_hasher=self.hasher,
                )
            )
        self.new_names.clear()

    def decisions(self) -> Decisions:
        """What vLLM did, once `run` is through."""
        counts = (self.prefix_queries, self.prefix_hits)
        return Decisions(self.steps, self.outputs, self.refused, counts, self.marks)

    def _step(self) -> bool:
        if self.core.batch_queue is None:
            outputs, executed = self.core.step()
        else:
            outputs, executed = self.core.step_with_batch_queue()
        self.core.post_step(executed)
        for output in (o for per_client in (outputs or {}).values() for o in per_client.outputs):
            request_id = int(output.request_id)
            first = request_id not in self.seen
            if first and output.new_token_ids:
                self.seen.add(request_id)
                self.first_ps[output.request_id] = self.now
                self.outputs.append((self.now, request_id, "first"))
            if output.finish_reason is not None:
                self.outputs.append((self.now, request_id, str(output.finish_reason)))
                self.ended.setdefault(output.request_id, self.now)
        return bool(executed)

    def run(self) -> OracleRun:
        """Run to the end, as ``EngineCoreProc.run_busy_loop`` does."""
        core = self.core
        idle = 0
        while True:
            self._take_input()
            if not self.scheduler.has_requests() and not core.batch_queue:
                if self.next_event == len(self.events):
                    self.scheduler.kv_cache_manager.make_prefix_cache_stats()
                    return self
                self.now = max(self.now, self.events[self.next_event][0])
                continue
            executed = self._step()
            idle = 0 if executed else idle + 1
            if idle > MAX_IDLE_LOOPS:
                raise RuntimeError("vLLM waits for ever: a request can never fit")
            if not executed and self.scheduler.has_requests():
                self.now += EMPTY_LOOP_SLEEP_PS
