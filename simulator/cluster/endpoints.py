"""The way from a pod's readiness to the gateway: EndpointSlice, proxies, routers, all in one delay.

The gateway hears of a change only after the delay; until then it sends requests to pods that are on their way
out, and none to pods that are ready already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.cluster.cold_start import propagation_ps

if TYPE_CHECKING:
    from simulator.attempts import GatewayPort
    from simulator.clock import Clock
    from simulator.cluster.pods import Pod
    from simulator.cluster.replica import Replica
    from simulator.draws import Draws
    from simulator.scenario.cold_start import ColdStart


class Endpoints:
    """Tells the gateway which replicas there are."""

    def __init__(self, env: Clock, config: ColdStart, draws: Draws, gateway: GatewayPort) -> None:
        self._env = env
        self._config = config
        self._draws = draws
        self._gateway = gateway

    def publish(self, pod: Pod, *, at_once: bool = False) -> None:
        """The pod has turned ready."""
        if at_once:
            self._list(pod)
        else:
            delay_ps = propagation_ps(self._config, self._draws, pod.ordinal, leaving=False)
            self._env.call_at(self._env.now + delay_ps, lambda _: self._list(pod))

    def suspend(self, pod: Pod) -> None:
        """The pod is not ready for now: its container has ended and will be restarted."""
        if pod.endpoint == "listed" and pod.replica is not None:
            replica = pod.replica
            pod.endpoint = "stale"
            self._env.call_at(
                self._env.now + self._leaving_ps(pod), lambda _: self._unlist_stale(pod, replica)
            )

    def withdraw(self, pod: Pod) -> None:
        """The pod is being deleted, or has failed. Told twice, the first counts."""
        if pod.endpoint in ("leaving", "left"):
            return
        pod.endpoint = "leaving"
        if pod.replica is not None:
            replica = pod.replica
            self._env.call_at(self._env.now + self._leaving_ps(pod), lambda _: self._unlist(pod, replica))

    def _leaving_ps(self, pod: Pod) -> int:
        return propagation_ps(self._config, self._draws, pod.ordinal, leaving=True)

    def _list(self, pod: Pod) -> None:
        # A pod that began to leave, or ended, while the news of its readiness travelled is not listed any more.
        if pod.endpoint not in ("none", "stale") or pod.replica is None or not pod.ready:
            return
        if pod.endpoint == "stale":
            self._gateway.remove_endpoint(
                pod.replica
            )  # by its name: the news overtakes that of the old one's end
        pod.endpoint = "listed"
        self._gateway.add_endpoint(pod.replica)

    def _unlist_stale(self, pod: Pod, replica: Replica) -> None:
        if pod.endpoint != "listed":  # else its successor is listed already
            self._gateway.remove_endpoint(replica)
            if pod.endpoint == "stale":
                pod.endpoint = "none"

    def _unlist(self, pod: Pod, replica: Replica) -> None:
        pod.endpoint = "left"
        self._gateway.remove_endpoint(replica)
