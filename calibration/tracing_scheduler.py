"""vLLM's schedulers, recording every step. They run inside the engine core's process.

``--scheduler-cls calibration.tracing_scheduler.TracingScheduler``, and with async scheduling
``--async-scheduling --scheduler-cls calibration.tracing_scheduler.TracingAsyncScheduler``: a subclass of the
plain scheduler would switch async scheduling off. Environment: ``CALIBRATION_TRACE`` names the folder;
``CALIBRATION_TRACE_DRIVEN=1`` says that who drives the engine pauses it to have the trace written. Without that
it is written whenever the engine has had nothing to do for a second. Needs vLLM (0.26 to 0.32 are checked).
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Final

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from calibration.step_trace import StepTrace

SETTINGS: Final = (
    "max_num_seqs",
    "max_num_active_seqs",
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "async_scheduling",
    "policy",
    "scheduler_reserve_full_isl",
    "watermark",
    "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive",
    "max_num_queued_reqs",
    "max_num_queued_tokens",
)
"""Scheduler settings that decisions depend on; a release may lack some."""

_IDLE_S: Final = 1.0


class _Tracing:
    """The recording, over either scheduler."""

    requests: dict[str, Any]
    running: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scheduler: Any = self
        settings = {
            name: getattr(scheduler.scheduler_config, name)
            for name in SETTINGS
            if hasattr(scheduler.scheduler_config, name)
        }
        settings["policy"] = str(settings["policy"])
        settings["num_gpu_blocks"] = scheduler.cache_config.num_gpu_blocks
        settings["enable_prefix_caching"] = scheduler.cache_config.enable_prefix_caching
        settings["block_size"] = scheduler.block_size
        settings["max_model_len"] = scheduler.max_model_len
        self._trace = StepTrace(Path(os.environ["CALIBRATION_TRACE"]), settings)
        self._pool = scheduler.kv_cache_manager.block_pool
        self._last_busy_s = time.monotonic()
        if os.environ.get("CALIBRATION_TRACE_DRIVEN") != "1":
            threading.Thread(target=self._flush_when_idle, daemon=True).start()

    def _flush_when_idle(self) -> None:
        while True:
            time.sleep(_IDLE_S)
            if not self.requests and time.monotonic() - self._last_busy_s > _IDLE_S:
                self._trace.flush()

    def add_request(self, request: Any) -> None:
        self._last_busy_s = time.monotonic()
        self._trace.arrived(request.request_id)
        super().add_request(request)  # type: ignore[misc]  # the scheduler that comes next

    def _preempt_request(self, request: Any, *args: Any, **kwargs: Any) -> None:
        self._trace.preempted(request.request_id)
        super()._preempt_request(request, *args, **kwargs)  # type: ignore[misc]

    def _free_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self._trace.freed(request.request_id)
        return super()._free_request(request, *args, **kwargs)  # type: ignore[misc]

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        start_ns = time.monotonic_ns()
        depth = self._trace.num_in_flight
        output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        if output.num_scheduled_tokens:
            cached, new = output.scheduled_cached_reqs, output.scheduled_new_reqs
            new_names = [request.req_id for request in new]
            self._trace.scheduled(
                id(output),
                depth,
                start_ns,
                dict(output.num_scheduled_tokens),
                (
                    (list(cached.req_ids), list(cached.num_computed_tokens)),
                    (new_names, [request.num_computed_tokens for request in new]),
                ),
                (new_names, tuple(cached.resumed_req_ids)),
                list(self.running),
                self.get_request_counts()[1],  # type: ignore[attr-defined]
                self._pool.get_num_free_blocks(),
            )
        return output

    def update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        output_ns = time.monotonic_ns()
        result = super().update_from_output(scheduler_output, *args, **kwargs)  # type: ignore[misc]
        self._trace.output(id(scheduler_output), output_ns)
        self._last_busy_s = time.monotonic()
        return result

    def set_pause_state(self, pause_state: Any) -> None:
        if not self.requests:
            self._trace.flush()
        super().set_pause_state(pause_state)  # type: ignore[misc]

    def shutdown(self) -> None:
        self._trace.flush()
        super().shutdown()  # type: ignore[misc]


class TracingScheduler(_Tracing, Scheduler):  # type: ignore[misc]  # vLLM may not be installed
    """The synchronous scheduler with a trace."""


class TracingAsyncScheduler(_Tracing, AsyncScheduler):  # type: ignore[misc]
    """The asynchronous scheduler with a trace."""
