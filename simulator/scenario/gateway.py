"""The gateway: which replica gets a request, and what happens when none can take it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.scenario.quantities import DurationS, Section

Routing = Literal[
    "round-robin",
    "least-outstanding",
    "least-kv",
    "prefix-hash",
    "prefix-match",
    "random-of-two",
]


class Gateway(Section):
    """Routing, queueing, admission.

    ``least-outstanding`` counts what the gateway itself has sent and not seen end, so it is exact;
    ``least-kv`` reads scraped ``vllm:kv_cache_usage_perc``, so it is stale.
    """

    routing: Routing = "least-outstanding"
    latency: DurationS = 0.002
    """Time that a request spends in the gateway and on the wire, one way; an answer spends it on its way back, a
    refusal by the gateway only on its way back."""
    max_outstanding_per_replica: Annotated[int, Field(ge=1)] | None = None
    """Requests in flight per replica beyond which the gateway holds new ones; None: no limit."""
    max_queue: Annotated[int, Field(ge=0)] = 1000
    """Requests that the gateway holds while no replica can take them; one more is answered 429."""
    queue_timeout: DurationS = 60.0
    """Longest time in that queue; then 503."""
    metrics_interval: DurationS = 5.0
    """How often a routing policy that needs pod metrics reads them."""
    virtual_nodes: Annotated[int, Field(ge=1, le=1000)] = 100
    """Points per replica on the hash ring of ``prefix-hash``."""
    prefix_block_tokens: Annotated[int, Field(ge=1)] = 64
    """Granularity at which ``prefix-match`` looks at prompts; ``prefix-hash`` looks at the first block alone."""
    prefix_blocks_per_replica: Annotated[int, Field(ge=1)] = 50_000
    """Blocks that ``prefix-match`` remembers per replica (least recently used go first)."""
    load_balance_abs: Annotated[int, Field(ge=0)] = 32
    """``prefix-match`` and ``prefix-hash`` fall back to least outstanding when the replica that they
    favour has this many more requests in flight than the least loaded one."""
