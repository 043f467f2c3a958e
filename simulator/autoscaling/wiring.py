"""The autoscalers of a scenario: each policy becomes its loop, and how many replicas a run starts with.

A new kind of policy needs its section in `simulator.scenario.autoscaling`, the reader of its file in
`simulator.scenario.load`, and a case here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.autoscaling.exporters import EXPORTED
from simulator.autoscaling.floors import CronFloor, HeldSize
from simulator.autoscaling.hpa import hpa_spec
from simulator.autoscaling.hpa_loop import HpaLoop
from simulator.scenario.autoscaling import CronFloorPolicy, HpaPolicy

if TYPE_CHECKING:
    from simulator.autoscaling.autoscaler import Autoscaler, Services
    from simulator.scenario.load import LoadedPolicy, LoadedScenario


def make_autoscalers(loaded: LoadedScenario, services: Services) -> list[Autoscaler]:
    """The loops of all policies, in the scenario's order; to be started after the cluster.

    Raises:
        ScenarioError: a policy reads what nothing exports.
    """
    for name, exported in loaded.scenario.fleet.autoscaling.scrape.metrics.items():
        if exported not in EXPORTED:
            raise loaded.error(
                f"nothing exports {exported!r}; expected one of {', '.join(EXPORTED)}",
                *("fleet", "autoscaling", "scrape", "metrics", name),
            )
    hpas = sum(isinstance(entry.policy, HpaPolicy) for entry in loaded.policies)
    made = [_make(loaded, entry, services, ambiguous=hpas > 1) for entry in loaded.policies]
    if made and not any(autoscaler.writes_size for autoscaler in made):
        made.append(HeldSize(services, initial_replicas(loaded)))
    return made


def _make(loaded: LoadedScenario, entry: LoadedPolicy, services: Services, *, ambiguous: bool) -> Autoscaler:
    policy = entry.policy
    if isinstance(policy, CronFloorPolicy):
        return CronFloor(services, policy)
    assert entry.manifest is not None  # the loader has read it
    try:
        return HpaLoop(
            services,
            policy.name or entry.manifest.metadata.name,
            hpa_spec(entry.manifest),
            policy,
            manifest=entry.path,
            ambiguous=ambiguous,
        )
    except ValueError as error:
        raise loaded.error(str(error), *entry.key, "version") from None


def initial_replicas(loaded: LoadedScenario) -> int:
    """Replicas at time 0: the scenario's, else the Deployment's, else the largest minimum of the policies, at least 1.

    A target that starts at 0 is asleep for an HPA that has not put it there: it stays so.
    """
    fleet, deployment = loaded.scenario.fleet, loaded.deployment
    if fleet.replicas is not None:
        return fleet.replicas
    if deployment is not None:
        return deployment.spec.replicas
    minima = [entry.manifest.spec.min_replicas for entry in loaded.policies if entry.manifest is not None]
    return max((minimum for minimum in minima if minimum is not None), default=1) or 1


def series_labels(loaded: LoadedScenario) -> dict[str, str]:
    """Labels of every pod's series, as vLLM and Prometheus' service discovery set them."""
    served = loaded.vllm.served_model_name
    name = served[0] if isinstance(served, list) and served else served
    labels = {"engine": "0", "model_name": str(name or loaded.vllm.model)}
    if loaded.deployment is not None:
        labels["namespace"] = loaded.deployment.metadata.namespace
    return labels
