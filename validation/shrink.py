"""Makes a schedule on which two schedulers differ as small as it can be while they still differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from simulator.engines.protocol import EngineRequest
from validation.schedules import LinearStepTime, Schedule

_SIMPLER: Final[tuple[dict[str, Any], ...]] = (
    {"max_num_queued_reqs": None, "max_num_queued_tokens": None},
    {"max_num_active_seqs": None},
    {"long_prefill_token_threshold_adaptive": False},
    {"long_prefill_token_threshold": 0},
    {"watermark": 0.0},
    {"max_loras": None},
    {"num_speculative_tokens": 0},
    {"policy": "fcfs"},
    {"enable_prefix_caching": False},
    {"enable_chunked_prefill": True},
    {"scheduler_reserve_full_isl": True},
    {"async_scheduling": False},
)


def shrink(schedule: Schedule, differs: Callable[[Schedule], bool], max_tries: int = 600) -> Schedule:
    """The smallest schedule found on which ``differs`` holds; it must hold on the one given.

    A candidate on which ``differs`` raises does not count.
    """
    tries = 0
    found = True
    while found and tries < max_tries:
        found = False
        for candidate in _candidates(schedule):
            tries += 1
            try:
                found = differs(candidate)
            except Exception:  # a smaller schedule may be one that neither side can run
                found = False
            if found:
                schedule = candidate
                break
            if tries >= max_tries:
                break
    return schedule


def _candidates(schedule: Schedule) -> Iterator[Schedule]:
    """Smaller schedules, the boldest cuts first."""
    count = len(schedule.arrivals)
    size = count // 2
    while size >= 1:
        for start in range(0, count, size):
            yield _keep(schedule, schedule.arrivals[:start] + schedule.arrivals[start + size :])
        size //= 2
    if schedule.aborts:
        yield replace(schedule, aborts=[])
        for index in range(len(schedule.aborts)):
            yield replace(schedule, aborts=schedule.aborts[:index] + schedule.aborts[index + 1 :])
    for change in _SIMPLER:
        if any(getattr(schedule.config, name) != value for name, value in change.items()):
            yield _with_config(schedule, change)
    plain_time = LinearStepTime(10**9, 0, 0, 0)
    if schedule.step_time != plain_time:
        yield replace(schedule, step_time=plain_time)
    if any(t for t, _ in schedule.arrivals):
        yield replace(schedule, arrivals=[(0, request) for _, request in schedule.arrivals])
    for index, (t, request) in enumerate(schedule.arrivals):
        for smaller in _smaller_requests(request):
            arrivals = schedule.arrivals.copy()
            arrivals[index] = (t, smaller)
            yield replace(schedule, arrivals=arrivals)


def _keep(schedule: Schedule, arrivals: list[tuple[int, EngineRequest]]) -> Schedule:
    ids = {request.request_id for _, request in arrivals}
    return replace(
        schedule, arrivals=arrivals, aborts=[abort for abort in schedule.aborts if abort[1] in ids]
    )


def _with_config(schedule: Schedule, change: dict[str, Any]) -> Schedule:
    try:
        schedule = replace(schedule, config=replace(schedule.config, **change))
    except ValueError:  # the settings do not go together
        return schedule
    if "max_loras" in change:
        return replace(schedule, arrivals=[(t, replace(r, lora=None)) for t, r in schedule.arrivals])
    if "num_speculative_tokens" in change:
        return replace(schedule, acceptance_rates=())
    return schedule


def _smaller_requests(request: EngineRequest) -> Iterator[EngineRequest]:
    if request.prompt_tokens > 1:
        yield replace(request, prompt_tokens=request.prompt_tokens // 2)
        yield replace(request, prompt_tokens=request.prompt_tokens - 1)
    if request.max_tokens > 1:
        half = request.max_tokens // 2
        yield replace(request, max_tokens=half, output_tokens=min(request.output_tokens, half))
    if request.output_tokens > 1:
        yield replace(request, output_tokens=request.output_tokens - 1)
    if request.segments:
        yield replace(request, segments=())
    if request.lora is not None:
        yield replace(request, lora=None)
    if request.priority:
        yield replace(request, priority=0)
