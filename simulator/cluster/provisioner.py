"""When nodes are asked for: at once, at the end of Karpenter's batching window, or at the cluster autoscaler's scan.

Sources: Karpenter documentation, settings (BATCH_IDLE_DURATION, BATCH_MAX_DURATION); cluster-autoscaler FAQ and
flags (--scan-interval). How long a node takes once it is asked for is the pool's ``provisioning``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.units import to_ps

if TYPE_CHECKING:
    from simulator.clock import Clock
    from simulator.scenario.capacity import Provisioner as ProvisionerSection


class Provisioner:
    """Decides when pods that fit nowhere get nodes.

    Args:
        env: the run's clock.
        config: the scenario's provisioner.
        provision: gives nodes to the pods that wait, as far as pools and zones allow.
    """

    def __init__(self, env: Clock, config: ProvisionerSection, provision: Callable[[], None]) -> None:
        self._env = env
        self._kind = config.kind
        self._provision = provision
        self._idle_ps = to_ps(config.batch_idle)
        self._max_ps = to_ps(config.batch_max)
        self._scan_ps = to_ps(config.scan_interval)
        self._window_ends_ps: int | None = None  # latest end of the window that is open
        self._due_ps: int | None = None

    @property
    def at_once(self) -> bool:
        """Whether a pod that fits nowhere gets its node at that instant."""
        return self._kind == "direct"

    def wake(self) -> None:
        """There is a pod that fits nowhere, or a pool may be asked again."""
        now = self._env.now
        match self._kind:
            case "direct":
                self._provision()
            case "cluster-autoscaler":
                if self._due_ps is None:
                    self._arm(now - now % self._scan_ps + self._scan_ps)
            case "karpenter":
                if self._window_ends_ps is None:
                    self._window_ends_ps = now + self._max_ps
                self._arm(min(now + self._idle_ps, self._window_ends_ps))

    def _arm(self, due_ps: int) -> None:
        self._due_ps = due_ps
        self._env.call_at(due_ps, lambda _: self._fire(due_ps))

    def _fire(self, due_ps: int) -> None:
        if self._due_ps == due_ps:  # not put off by a later pod
            self._due_ps = self._window_ends_ps = None
            self._provision()
