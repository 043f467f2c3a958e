"""The autoscalers of a scenario: each policy becomes its loop, and how many replicas a run starts with.

A new kind of policy needs its section in `simulator.scenario.autoscaling_kinds`, the reader of its file in
`simulator.scenario.policy_files`, and a case here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from simulator.autoscaling.dynamo_loop import DynamoLoop
from simulator.autoscaling.exporters import EXPORTED
from simulator.autoscaling.floor_loops import ForecastFloor, PerfectLoop, StandbyFloor
from simulator.autoscaling.floors import CronFloor, HeldSize
from simulator.autoscaling.forecast import Curve
from simulator.autoscaling.hpa import hpa_spec
from simulator.autoscaling.hpa_loop import HpaLoop
from simulator.autoscaling.keda_loop import KedaLoop
from simulator.autoscaling.perfect import PerfectSpec, plan
from simulator.autoscaling.query import Query, parse_query
from simulator.autoscaling.request_loops import KpaLoop, RayServeLoop
from simulator.autoscaling.sagemaker_loop import SageMakerLoop
from simulator.autoscaling.wva_loop import WvaLoop
from simulator.autoscaling.wva_tokens import EngineArguments
from simulator.scenario.application_auto_scaling import ScalableTarget
from simulator.scenario.autoscaling import CronFloorPolicy, HpaPolicy
from simulator.scenario.autoscaling_kinds import (
    DynamoPolicy,
    ForecastPolicy,
    KedaPolicy,
    KnativePolicy,
    PerfectPolicy,
    RayServePolicy,
    SageMakerPolicy,
    StandbyPolicy,
    WvaPolicy,
)
from simulator.scenario.dynamo_config import PlannerConfig
from simulator.scenario.manifests.hpa import HpaManifest
from simulator.scenario.manifests.keda import ScaledObjectManifest
from simulator.scenario.manifests.knative import KnativeAutoscaling
from simulator.scenario.policy_files import WvaFiles
from simulator.scenario.ray_serve_config import RayServeDeployment
from simulator.units import to_ps

if TYPE_CHECKING:
    from simulator.autoscaling.autoscaler import Autoscaler, Knowledge, Services
    from simulator.scenario.load import LoadedScenario
    from simulator.scenario.policy_files import LoadedPolicy

_MEAN_OF: Final = 5000
"""Requests whose mean lengths stand for the workload's."""

_OWN_AN_HPA: Final = ("hpa", "keda", "wva")


def make_autoscalers(loaded: LoadedScenario, services: Services, knowledge: Knowledge) -> list[Autoscaler]:
    """The loops of all policies, in the scenario's order; to be started after the cluster.

    Args:
        loaded: the scenario.
        services: what the loops work with.
        knowledge: what planners know beside.

    Raises:
        ScenarioError: a policy reads what nothing exports, or two have the same name.
    """
    for name, exported in loaded.scenario.fleet.autoscaling.scrape.metrics.items():
        if exported not in EXPORTED:
            raise loaded.error(
                f"nothing exports {exported!r}; expected one of {', '.join(EXPORTED)}",
                *("fleet", "autoscaling", "scrape", "metrics", name),
            )
    hpas = sum(entry.policy.kind in _OWN_AN_HPA for entry in loaded.policies)
    made = [_make(loaded, entry, services, knowledge, ambiguous=hpas > 1) for entry in loaded.policies]
    names = [autoscaler.name for autoscaler in made]
    for index, (entry, name) in enumerate(zip(loaded.policies, names, strict=True)):
        if name in names[:index]:  # floors, events and scrapes go by it
            raise loaded.error(f"another policy is called {name!r}: give this one a name", *entry.key, "name")
    if made and not any(autoscaler.writes_size for autoscaler in made):
        made.append(HeldSize(services, initial_replicas(loaded)))
    return made


def _make(
    loaded: LoadedScenario, entry: LoadedPolicy, services: Services, knowledge: Knowledge, *, ambiguous: bool
) -> Autoscaler:
    policy, content = entry.policy, entry.content
    try:
        match policy, content:
            case HpaPolicy(), HpaManifest():
                name = policy.name or content.metadata.name
                return HpaLoop(
                    services, name, hpa_spec(content), policy, manifest=entry.path, ambiguous=ambiguous
                )
            case KedaPolicy(), ScaledObjectManifest():
                assert entry.path is not None
                return KedaLoop(services, policy, content, entry.path, ambiguous=ambiguous)
            case WvaPolicy(), WvaFiles():
                assert entry.path is not None
                engine = _engine_arguments(loaded)
                return WvaLoop(services, policy, content, entry.path, knowledge, engine, ambiguous=ambiguous)
            case KnativePolicy(), KnativeAutoscaling():
                return KpaLoop(services, policy.name or content.name, content)
            case RayServePolicy(), RayServeDeployment():
                return RayServeLoop(services, policy.name or content.name, content)
            case SageMakerPolicy(), ScalableTarget():
                return SageMakerLoop(services, policy, content)
            case DynamoPolicy(), PlannerConfig():
                return DynamoLoop(services, policy.name or policy.kind, content, knowledge)
            case ForecastPolicy(), Curve():
                return ForecastFloor(services, policy, content)
            case StandbyPolicy(), None:
                return StandbyFloor(services, policy, _standby_query(loaded, entry, policy, services))
            case PerfectPolicy(), None:
                spec = _perfect(loaded, entry, policy, knowledge)
                arrivals = (request.arrival_ps for request in knowledge.arrivals())
                return PerfectLoop(services, policy.name or policy.kind, plan(arrivals, spec))
            case CronFloorPolicy(), None:
                return CronFloor(services, policy)
    except ValueError as error:
        raise loaded.error(str(error), *entry.key, "version") from None
    raise AssertionError(f"no loop for a {policy.kind} policy")


def _engine_arguments(loaded: LoadedScenario) -> EngineArguments:
    """What llm-d's autoscaler reads from a Deployment's arguments; what is not given is its idea of vLLM's defaults."""
    default, given = EngineArguments(), loaded.vllm
    return EngineArguments(
        given.max_num_batched_tokens or default.max_num_batched_tokens,
        given.max_num_seqs or default.max_num_seqs,
    )


def _standby_query(
    loaded: LoadedScenario, entry: LoadedPolicy, policy: StandbyPolicy, services: Services
) -> Query:
    try:
        query = parse_query(policy.query)
    except ValueError as error:
        raise loaded.error(str(error), *entry.key, "query") from None
    for metric in query.metrics:
        if services.metrics.exported(metric) is None:
            known = ", ".join(services.metrics.names())
            raise loaded.error(f"nothing exports {metric!r}: expected one of {known}", *entry.key, "query")
    return query


def _perfect(
    loaded: LoadedScenario, entry: LoadedPolicy, policy: PerfectPolicy, knowledge: Knowledge
) -> PerfectSpec:
    for workload in loaded.scenario.workload:
        if workload.sessions is not None or workload.arrivals.kind == "closed-loop":
            raise loaded.error(
                f"the arrivals of {workload.name} depend on the answers (sessions or a closed loop), so nobody can "
                "know them beforehand",
                *entry.key,
            )
    rate = policy.rate_per_replica
    if rate is None:
        requests = list(islice(knowledge.arrivals(), _MEAN_OF))
        outputs = [min(r.output_tokens, r.max_tokens) if r.max_tokens else r.output_tokens for r in requests]
        ttft_s, tpot_s, _ = loaded.scenario.slo.limits_s
        if requests:
            rate = knowledge.engine_rate(
                _mean(r.prompt_tokens for r in requests), _mean(outputs), ttft_s, tpot_s
            )
        else:
            rate = math.inf
        if not rate:
            raise loaded.error("one replica serves nothing within the SLO: give rate_per_replica", *entry.key)
    return PerfectSpec(
        rate_per_replica=rate,
        lead_ps=to_ps(policy.lead),
        window_ps=to_ps(policy.window),
        tail_ps=to_ps(policy.tail),
        min_replicas=policy.min_replicas,
        max_replicas=policy.max_replicas,
    )


def _mean(values: Iterable[int]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def initial_replicas(loaded: LoadedScenario) -> int:
    """Replicas at time 0: the scenario's, else the Deployment's, else the largest minimum of the policies, at least 1.

    A target that starts at 0 is asleep for an HPA that has not put it there: it stays so.
    """
    fleet, deployment = loaded.scenario.fleet, loaded.deployment
    if fleet.replicas is not None:
        return fleet.replicas
    if deployment is not None:
        return deployment.spec.replicas
    minima = [entry.min_replicas for entry in loaded.policies]
    return max((minimum for minimum in minima if minimum is not None), default=1) or 1


def series_labels(loaded: LoadedScenario) -> dict[str, str]:
    """Labels of every pod's series, as vLLM and Prometheus' service discovery set them."""
    served = loaded.vllm.served_model_name
    name = served[0] if isinstance(served, list) and served else served
    labels = {"engine": "0", "model_name": str(name or loaded.vllm.model)}
    if loaded.deployment is not None:
        labels["namespace"] = loaded.deployment.metadata.namespace
    return labels
