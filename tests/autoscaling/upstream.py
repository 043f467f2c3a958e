"""What the upstream controller's own test tables are stated in: pods, samples and times, in a few letters.

Facts from kubernetes/kubernetes (Apache License 2.0), pkg/controller/podautoscaler: replica_calculator_test.go and
horizontal_test.go of the v1.37 line. The tables use a CPU initialisation period of 2 minutes and a readiness delay
of 10 seconds, pods of two containers, and Go's zero time for what is not set (0 here).
"""

from __future__ import annotations

from simulator.autoscaling.hpa_controller import HpaController, HpaFlags, HpaGates
from simulator.autoscaling.hpa_spec import Behavior, MetricSpec, MetricTarget, ScalingPolicy, ScalingRules
from simulator.autoscaling.hpa_types import Container, ContainerUsage, Pod, ReadyCondition, ResourceUsage
from simulator.units import PS_PER_S

NOW = 100_000 * PS_PER_S
COOL = NOW - 180 * PS_PER_S
"""Creation of a pod that is past the initialisation period."""
HOT = NOW

PHASES = {"R": "Running", "P": "Pending", "F": "Failed", "S": "Succeeded"}
FLAGS = HpaFlags(cpu_initialization_period_ps=120 * PS_PER_S, initial_readiness_delay_ps=10 * PS_PER_S)


def controller(**gates):
    """The tables' controller: HPAScaleToZero is off where a case does not say otherwise."""
    return HpaController(flags=FLAGS, gates=HpaGates(**{"scale_to_zero": False, **gates}))


def make_pods(count, requests=(), *, ready="", start="", phase="", deleted="", transition=None):
    """Pods ``p0`` ...; a letter each: ready T or F, start h(ot) or c(ool), phase R P F S, deleted x.

    ``requests`` are those of each of the two containers; ``transition`` is the Ready condition's, the pod's start
    if None.
    """
    made = []
    for index in range(count):
        began = {"h": HOT, "c": COOL}[start[index]] if start else 0
        status = {"T": "True", "F": "False"}[ready[index]] if index < len(ready) else "True"
        own = {"cpu": requests[index]} if index < len(requests) else {}
        made.append(
            Pod(
                f"p{index}",
                phase=PHASES[phase[index]] if phase else "Running",
                deletion_ps=NOW if deleted and deleted[index] == "x" else None,
                start_ps=began,
                ready=ReadyCondition(status, began if transition is None else transition),
                containers=(Container("container1", own), Container("container2", own)),
            )
        )
    return tuple(made)


def usage(levels, names=(), timestamp=0):
    """The resource metrics API's answer: each level is that of both containers, or a list with one for each."""
    found = {}
    for index, level in enumerate(levels):
        both = level if isinstance(level, list) else [level, level]
        name = names[index] if index < len(names) else f"p{index}"
        # A container that is left out is an entry without a name.
        containers = {f"container{n + 1}": {"cpu": value} for n, value in enumerate(both)}
        found[name] = ContainerUsage(containers, timestamp, 60 * PS_PER_S)
    return ResourceUsage(found)


def cpu(target, container=""):
    kind = "ContainerResource" if container else "Resource"
    return MetricSpec(
        kind, "cpu", MetricTarget("Utilization", average_utilization_percent=target), container=container
    )


def qps(kind, target):
    """``kind``: Pods, Object, ObjectPerPod, External, ExternalPerPod; target in milli-units."""
    if kind == "Pods" or kind.endswith("PerPod"):
        wanted = MetricTarget("AverageValue", average_value_milli=target)
    else:
        wanted = MetricTarget("Value", value_milli=target)
    return MetricSpec(
        kind.removesuffix("PerPod"), "qps", wanted, described_object=("Deployment", "some-deployment")
    )


def tolerances(down, up):
    return Behavior(ScalingRules(tolerance=up), ScalingRules(tolerance=down))


def rules(pods, pods_s, percent, percent_s, window_s):
    """Rules as the tables generate them; a policy of 0 is left out."""
    policies = []
    if pods:
        policies.append(ScalingPolicy("Pods", pods, pods_s))
    if percent:
        policies.append(ScalingPolicy("Percent", percent, percent_s))
    return ScalingRules(window_s, tuple(policies) or None, "Max")
