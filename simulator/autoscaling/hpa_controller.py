"""The HorizontalPodAutoscaler's controller: version line, flags, feature gates, and what they change.

Source: kube-controller-manager's flags and Kubernetes' feature gates; rules changed between v1.23 and v1.37 as
its release notes say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from simulator.units import PS_PER_S

OLDEST_VERSION: Final = (1, 23)
"""autoscaling/v2 became generally available in v1.23: no older controller reads these manifests."""
NEWEST_VERSION: Final = (1, 37)
FINISHED_PHASES: Final = ("Failed", "Succeeded")


@cache
def parse_version(version: str) -> tuple[int, int]:
    """``"1.37"`` or ``"v1.37.2"`` to (1, 37).

    Raises:
        ValueError: not a version, or not one whose rules are known.
    """
    parts = version.removeprefix("v").split(".")
    if len(parts) not in (2, 3) or not all(part.isdigit() for part in parts):
        raise ValueError(f"expected a Kubernetes version such as 1.37, not {version!r}")
    line = (int(parts[0]), int(parts[1]))
    if not OLDEST_VERSION <= line <= NEWEST_VERSION:
        raise ValueError(
            f"Kubernetes {version} is not covered: the controller's rules are known for 1.23 to 1.37"
        )
    return line


@dataclass(frozen=True, slots=True)
class HpaFlags:
    """The kube-controller-manager's flags, with their real defaults.

    Attributes:
        sync_period_ps: --horizontal-pod-autoscaler-sync-period, the pause after each pass.
        tolerance: --horizontal-pod-autoscaler-tolerance.
        downscale_stabilization_ps: --horizontal-pod-autoscaler-downscale-stabilization.
        cpu_initialization_period_ps: --horizontal-pod-autoscaler-cpu-initialization-period.
        initial_readiness_delay_ps: --horizontal-pod-autoscaler-initial-readiness-delay.
        concurrent_syncs: --concurrent-horizontal-pod-autoscaler-syncs.
    """

    sync_period_ps: int = 15 * PS_PER_S
    tolerance: float = 0.1
    downscale_stabilization_ps: int = 300 * PS_PER_S
    cpu_initialization_period_ps: int = 300 * PS_PER_S
    initial_readiness_delay_ps: int = 30 * PS_PER_S
    concurrent_syncs: int = 5


@dataclass(frozen=True, slots=True)
class HpaGates:
    """Feature gates that change a decision; None takes the default of the controller's version."""

    scale_to_zero: bool | None = None
    configurable_tolerance: bool | None = None
    pod_level_resources: bool | None = None


@dataclass(frozen=True, slots=True)
class HpaController:
    """The controller that decides: its version line, flags and feature gates.

    Raises:
        ValueError: the rules of that version are not known.
    """

    version: str = "1.37"
    flags: HpaFlags = HpaFlags()
    gates: HpaGates = HpaGates()

    def __post_init__(self) -> None:
        parse_version(self.version)

    @property
    def line(self) -> tuple[int, int]:
        return parse_version(self.version)

    @property
    def scale_to_zero(self) -> bool:
        """HPAScaleToZero: alpha and off from v1.16, on by default in v1.37."""
        gate = self.gates.scale_to_zero
        return self.line >= (1, 37) if gate is None else gate

    @property
    def configurable_tolerance(self) -> bool:
        """HPAConfigurableTolerance: alpha and off in v1.33 and v1.34, on by default from v1.35."""
        gate = self.gates.configurable_tolerance
        return self.line >= (1, 35) if gate is None else gate and self.line >= (1, 33)

    @property
    def pod_level_resources(self) -> bool:
        """PodLevelResources: on by default (beta) from v1.34."""
        gate = self.gates.pod_level_resources
        return self.line >= (1, 34) if gate is None else gate

    @property
    def interval_tolerance(self) -> bool:
        """Whether the tolerance is an inclusive interval (v1.33) or a bound on |1 - ratio| (before)."""
        return self.line >= (1, 33)

    @property
    def rejects_ambiguous_selectors(self) -> bool:
        return self.line >= (1, 27)

    @property
    def finished_phases(self) -> tuple[str, ...]:
        """Phases of pods that per-pod metrics ignore: finished ones in v1.37, only failed ones before.

        The two rules are those of the v1.37 line's source and of the test table before it; in which release
        the change came out was not found.
        """
        return FINISHED_PHASES if self.line >= (1, 37) else ("Failed",)

    @property
    def requires_container_sample(self) -> bool:
        """Whether one pod's entry without the container fails a ContainerResource metric (before v1.37)."""
        return self.line < (1, 37)

    @property
    def retries_write_conflicts(self) -> bool:
        return self.line >= (1, 34)

    @property
    def first_pass_delay_ps(self) -> int:
        """When a new autoscaler is first looked at: at once in v1.37, after one sync period before."""
        return 0 if self.line >= (1, 37) else self.flags.sync_period_ps
