"""Traffic split between versions: a canary's or an A/B test's share of the requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from simulator.attempts import request_id_of

if TYPE_CHECKING:
    from simulator.attempts import Attempt
    from simulator.draws import Draws
    from simulator.gateway.endpoint import Endpoint
    from simulator.gateway.routing import RoutingPolicy


class TrafficSplit:
    """A routing policy for each version, and weights between versions.

    A request keeps its version over its attempts, and as the weights move no more requests change sides than must:
    the draw is addressed by the request. Without weights all endpoints are one group; if the version that is drawn has
    no endpoint to take the request, another does.

    Args:
        make_policy: makes the policy of a group.
        draws: the run's draws.
    """

    def __init__(self, make_policy: Callable[[], RoutingPolicy], draws: Draws) -> None:
        self.version_of: Callable[[str], str]
        self._make_policy = make_policy
        self._draws = draws
        self._weights: dict[str, float] = {}
        self._endpoints: dict[str, tuple[Endpoint, str]] = {}
        self._policies: dict[str, RoutingPolicy] = {"": make_policy()}

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Split by these shares, which add up to 1, from now on; an empty mapping ends the split."""
        self._weights = dict(weights)
        self._policies = {version: self._make_policy() for version in (weights or {"": 1.0})}
        for endpoint, version in self._endpoints.values():
            policy = self._policies.get(version if weights else "")
            if policy is not None:
                policy.add(endpoint)

    def add(self, endpoint: Endpoint) -> None:
        """New requests may go to this endpoint."""
        version = self.version_of(endpoint.name)
        self._endpoints[endpoint.name] = endpoint, version
        policy = self._policies.get(version if self._weights else "")
        if policy is not None:
            policy.add(endpoint)

    def remove(self, endpoint: Endpoint) -> None:
        """No new requests go to this endpoint."""
        _, version = self._endpoints.pop(endpoint.name)
        policy = self._policies.get(version if self._weights else "")
        if policy is not None:
            policy.remove(endpoint)

    def choose(self, candidates: Sequence[Endpoint], attempt: Attempt) -> Endpoint:
        """The endpoint that gets the attempt."""
        if not self._weights:
            return self._policies[""].choose(candidates, attempt)
        u = self._draws.uniform("traffic-split", request_id_of(attempt.attempt_id))
        drawn = next(reversed(self._weights))
        for version, weight in self._weights.items():
            u -= weight
            if u < 0:
                drawn = version
                break
        for version in (drawn, *(other for other in self._weights if other != drawn)):
            of_version = [c for c in candidates if self._endpoints[c.name][1] == version]
            if of_version:
                return self._policies[version].choose(of_version, attempt)
        return candidates[0]  # of a version without weight: better than none
