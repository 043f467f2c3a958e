"""Evictions: drains ask for them one pod at a time, and a PodDisruptionBudget may say no for now.

A refused eviction is tried again every 5 s (as ``kubectl drain`` does), until the pod has gone. Scale-downs, rollouts
and nodes that vanish do not ask. Source: Kubernetes documentation, "Disruptions" and "Specifying a Disruption Budget";
pkg/registry/core/pod/storage/eviction.go (pods that are not ready: unhealthyPodEvictionPolicy IfHealthyBudget).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from simulator.units import PS_PER_S

if TYPE_CHECKING:
    from simulator.clock import Clock
    from simulator.cluster.deployment import Deployment
    from simulator.cluster.pods import Pod
    from simulator.cluster.termination import Terminator
    from simulator.outcomes import Cause
    from simulator.records.sink import RecordSink
    from simulator.scenario.lifecycle import DisruptionBudget

_AGAIN_PS: Final = 5 * PS_PER_S


def may_evict(
    budget: DisruptionBudget, replicas: int, healthy: int, pod_ready: bool, pod_running: bool
) -> bool:
    """Whether the budget allows one more eviction.

    Args:
        budget: the scenario's.
        replicas: the Deployment's spec.replicas.
        healthy: ready pods that are not being deleted.
        pod_ready: whether the pod to be evicted is one of them.
        pod_running: whether it has been started; a Pending pod may always be evicted.
    """
    if not pod_running:
        return True
    needed = budget.needed(replicas)
    return healthy > needed if pod_ready else healthy >= needed


class Evictor:
    """Evicts pods, within the budget if there is one.

    Args:
        env: the run's clock.
        budget: the scenario's, or None.
        deployment: whose pods.
        terminator: ends them.
        sink: gets the events.
    """

    def __init__(
        self,
        env: Clock,
        budget: DisruptionBudget | None,
        deployment: Deployment,
        terminator: Terminator,
        sink: RecordSink,
    ) -> None:
        self._env = env
        self._budget = budget
        self._deployment = deployment
        self._terminator = terminator
        self._sink = sink

    def evict(self, pods: Sequence[Pod], grace_ps: Callable[[], int], cause: Cause) -> None:
        """Evict them, some perhaps later.

        Args:
            pods: of a node that is being drained.
            grace_ps: what each gets when it is its turn.
            cause: of the streams that are cut.
        """
        for pod in pods:
            self._try(pod, grace_ps, cause, first=True)
        self._deployment.reconcile()

    def _try(self, pod: Pod, grace_ps: Callable[[], int], cause: Cause, *, first: bool) -> None:
        if not pod.active or (pod.node is not None and pod.node.gone_ps is not None):
            return
        if self._budget is not None and not self._allowed(self._budget, pod):
            if first:
                self._sink.event(
                    self._env.now,
                    "pod",
                    pod.name,
                    "EvictionBlocked",
                    "The PodDisruptionBudget allows no eviction now; it is tried again every 5 s.",
                )
            self._env.call_at(self._env.now + _AGAIN_PS, lambda _: self._again(pod, grace_ps, cause))
            return
        self._terminator.delete(pod, grace_ps(), cause)

    def _again(self, pod: Pod, grace_ps: Callable[[], int], cause: Cause) -> None:
        self._try(pod, grace_ps, cause, first=False)
        self._deployment.reconcile()

    def _allowed(self, budget: DisruptionBudget, pod: Pod) -> bool:
        healthy = sum(other.ready for other in self._deployment.active())
        return may_evict(
            budget, self._deployment.spec_replicas, healthy, pod.ready, pod.container_ps is not None
        )
