"""From a scenario's ``gateway.routing`` to the policy."""

from __future__ import annotations

from simulator.draws import Draws
from simulator.gateway.prefix_routing import PrefixHash, PrefixMatch
from simulator.gateway.routing import (
    LatestMetric,
    LeastKv,
    LeastOutstanding,
    RandomOfTwo,
    RoundRobin,
    RoutingPolicy,
)
from simulator.scenario.gateway import Gateway as GatewaySection


def routing_policy(section: GatewaySection, draws: Draws, latest: LatestMetric) -> RoutingPolicy:
    """The routing policy that a scenario asks for.

    Args:
        section: the scenario's gateway.
        draws: the run's draws, for ``random-of-two``.
        latest: scraped metrics, for ``least-kv``; whoever provides them scrapes every ``metrics_interval``.
    """
    match section.routing:
        case "round-robin":
            return RoundRobin()
        case "least-outstanding":
            return LeastOutstanding()
        case "least-kv":
            return LeastKv(latest)
        case "random-of-two":
            return RandomOfTwo(draws)
        case "prefix-hash":
            return PrefixHash(section.virtual_nodes, section.prefix_block_tokens, section.load_balance_abs)
        case "prefix-match":
            return PrefixMatch(
                section.prefix_block_tokens, section.prefix_blocks_per_replica, section.load_balance_abs
            )
