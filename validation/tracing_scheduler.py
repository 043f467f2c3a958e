"""vLLM's scheduler, writing down what it decides. Runs inside the engine core's process.

Pass ``validation.tracing_scheduler.TracingScheduler`` as ``scheduler_cls``; the environment variable
``STEP_TRACE`` names the file. One JSON line for the settings, one for each request that arrives (with the number
of steps scheduled before it) and one for each step that schedules something. Needs vLLM.
"""

from __future__ import annotations

import json
import os
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

SETTINGS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "async_scheduling",
    "policy",
    "scheduler_reserve_full_isl",
    "watermark",
    "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive",
)


def _number(name: str) -> int:
    """The number in a request id of the form ``17`` or, with vLLM's suffix, ``17-8f3a``."""
    return int(name.split("-", maxsplit=1)[0])


class TracingScheduler(Scheduler):  # type: ignore[misc]  # vLLM may not be installed
    """The synchronous scheduler with a trace."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._trace = open(os.environ["STEP_TRACE"], "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._num_steps = 0
        self._victims: list[int] = []
        self._finished: list[int] = []
        settings = {name: getattr(self.scheduler_config, name) for name in SETTINGS}
        settings["policy"] = str(settings["policy"])
        settings["num_gpu_blocks"] = self.cache_config.num_gpu_blocks
        settings["enable_prefix_caching"] = self.cache_config.enable_prefix_caching
        settings["block_size"] = self.block_size
        settings["max_model_len"] = self.max_model_len
        self._write({"settings": settings})

    def _write(self, line: dict[str, Any]) -> None:
        self._trace.write(json.dumps(line, separators=(",", ":")) + "\n")

    def add_request(self, request: Any) -> None:
        self._write({"arrival": _number(request.request_id), "step": self._num_steps})
        super().add_request(request)

    def _preempt_request(self, request: Any, *args: Any, **kwargs: Any) -> None:
        self._victims.append(_number(request.request_id))
        super()._preempt_request(request, *args, **kwargs)

    def _free_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self._finished.append(_number(request.request_id))
        return super()._free_request(request, *args, **kwargs)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        output = super().schedule(*args, **kwargs)
        tokens = output.num_scheduled_tokens
        if not tokens:
            return output
        context = {name: self.requests[name].num_computed_tokens - n for name, n in tokens.items()}
        admitted = {r.req_id for r in output.scheduled_new_reqs}
        admitted |= set(output.scheduled_cached_reqs.resumed_req_ids)
        self._write(
            {
                "scheduled": [[_number(name), n, context[name]] for name, n in tokens.items()],
                "admitted": [[_number(name), context[name]] for name in tokens if name in admitted],
                "preempted": self._victims,
                "running": [_number(r.request_id) for r in self.running],
                "waiting": self.get_request_counts()[1],
                "free_blocks": self.kv_cache_manager.block_pool.get_num_free_blocks(),
                "finished_before": self._finished,
            }
        )
        self._victims = []
        self._finished = []
        self._num_steps += 1
        return output
