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
        delay_ps = 0 if at_once else propagation_ps(self._config, self._draws, pod.ordinal, leaving=False)
        if at_once:
            self._list(pod)
        else:
            self._env.call_at(self._env.now + delay_ps, lambda _: self._list(pod))

    def suspend(self, pod: Pod) -> None:
        """The pod is not ready for now: its container has ended and will be restarted."""
        if pod.endpoint in ("leaving", "left") or pod.replica is None:
            return
        replica = pod.replica
        pod.endpoint = "none"
        delay_ps = propagation_ps(self._config, self._draws, pod.ordinal, leaving=True)
        self._env.call_at(self._env.now + delay_ps, lambda _: self._unlist_old(pod, replica))

    def withdraw(self, pod: Pod) -> None:
        """The pod is being deleted, or has failed. Told twice, the first counts."""
        if pod.endpoint in ("leaving", "left"):
            return
        listed = pod.endpoint == "listed"
        pod.endpoint = "leaving"
        if listed or pod.replica is not None:
            delay_ps = propagation_ps(self._config, self._draws, pod.ordinal, leaving=True)
            self._env.call_at(self._env.now + delay_ps, lambda _: self._unlist(pod))

    def _list(self, pod: Pod) -> None:
        # A pod that began to leave while the news of its readiness travelled is not listed any more.
        if pod.endpoint == "none" and pod.replica is not None and pod.ready:
            pod.endpoint = "listed"
            self._gateway.add_endpoint(pod.replica)

    def _unlist_old(self, pod: Pod, replica: Replica) -> None:
        if pod.endpoint == "none":  # else its successor is listed already, or the pod leaves altogether
            self._gateway.remove_endpoint(replica)

    def _unlist(self, pod: Pod) -> None:
        pod.endpoint = "left"
        if pod.replica is not None:
            self._gateway.remove_endpoint(pod.replica)
