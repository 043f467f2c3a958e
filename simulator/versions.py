"""The versions of the Deployment and the GPUs that they run on: a plan for each pair, resolved before the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from simulator.cluster.pods import PodSpec
from simulator.cluster.rolling import Bounds
from simulator.resolve import ReplicaPlan, pod_spec, resolve_replica
from simulator.scenario.errors import ScenarioError
from simulator.scenario.vllm_config import parse_vllm_config
from simulator.units import to_ps

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.scenario.engine import EngineSection
    from simulator.scenario.load import LoadedScenario
    from simulator.scenario.vllm_config import VllmServeConfig


@dataclass(frozen=True)
class VersionPlan:
    """One version of the Deployment.

    Attributes:
        spec: what its pods ask for.
        plans: by GPU id as the scenario writes it; ``engine.gpu``'s first.
    """

    spec: PodSpec
    plans: dict[str, ReplicaPlan]


@dataclass(frozen=True)
class _Variant:
    """The scenario's engine on another GPU or with other flags; mistakes are told by the key that asks for it."""

    loaded: LoadedScenario
    engine: EngineSection
    gpu_key: tuple[str | int, ...] = ("engine", "gpu")
    vllm_key: tuple[str | int, ...] = ("engine", "vllm")

    @property
    def vllm(self) -> VllmServeConfig:
        return self.loaded.vllm

    @property
    def base_dir(self) -> Path:
        return self.loaded.base_dir

    def error(self, reason: str, *key: str | int) -> ScenarioError:
        match key:
            case ("engine", "gpu", *_):
                return self.loaded.error(reason, *self.gpu_key)
            case ("engine", "vllm", *_):
                return self.loaded.error(reason, *self.vllm_key)
        return self.loaded.error(reason, *key)


def resolve_versions(loaded: LoadedScenario) -> dict[str, VersionPlan]:
    """All versions of a scenario, by name; ``v1``, which runs at the start, first.

    Raises:
        ScenarioError: as for `resolve_replica`; a version that needs another number of GPUs.
    """
    engine_gpu = loaded.scenario.engine.gpu
    plans = _on_all_gpus(loaded, ("engine", "vllm"))
    first = VersionPlan(pod_spec(loaded, plans[engine_gpu]), plans)
    versions = {first.spec.version: first}
    for index, rollout in enumerate(loaded.scenario.rollouts):
        version = rollout.version
        key = ("rollouts", index, "version", "vllm")
        changed = _with_flags(loaded, version.vllm, key) if version.vllm else loaded
        plans = _on_all_gpus(changed, key) if version.vllm else first.plans
        plan = plans[engine_gpu]
        if plan.gpus != first.spec.gpus:
            raise loaded.error(
                f"{version.name} needs {plan.gpus} GPUs, the pods of v1 have {first.spec.gpus}", *key
            )
        spec = replace(
            pod_spec(changed, plan),
            version=version.name,
            image=version.name if version.new_image else first.spec.image,
            slowdown=Fraction(version.slowdown).limit_denominator(1000),
            crash_after_s=version.crash_after,
        )
        versions[version.name] = VersionPlan(spec, plans)
    return versions


def _with_flags(loaded: LoadedScenario, flags: dict[str, Any], key: tuple[str | int, ...]) -> LoadedScenario:
    """The scenario with other vLLM flags."""
    given = loaded.vllm.model_dump(exclude_unset=True, exclude={"file", "notes"})
    merged = {name.replace("_", "-"): value for name, value in given.items()}
    merged.update({str(name).replace("_", "-"): value for name, value in flags.items()})
    try:
        return replace(loaded, vllm=parse_vllm_config(merged))
    except ScenarioError as error:
        raise loaded.error(error.reason, *key, *([error.key] if error.key else [])) from None


def _on_all_gpus(loaded: LoadedScenario, vllm_key: tuple[str | int, ...]) -> dict[str, ReplicaPlan]:
    section = loaded.scenario.engine
    plans = {section.gpu: resolve_replica(_Variant(loaded, section, vllm_key=vllm_key))}
    for index, pool in enumerate(loaded.scenario.cluster.pools):
        if pool.gpu is not None and pool.gpu not in plans:
            key = ("cluster", "pools", index, "gpu")
            other = section.model_copy(update={"gpu": pool.gpu})
            plans[pool.gpu] = resolve_replica(_Variant(loaded, other, key, vllm_key))
    return plans


def rollout_bounds(loaded: LoadedScenario) -> tuple[list[Bounds], list[int]]:
    """Surge and unavailability of each rollout, and its minReadySeconds in picoseconds: its own, else the manifest's.

    A Recreate strategy is a rolling update of which all pods may be missing.
    """
    bounds, min_ready_ps = [], []
    spec = None if loaded.deployment is None else loaded.deployment.spec
    strategy = None if spec is None else spec.strategy
    surge: int | str = "25%"
    unavailable: int | str = "25%"
    if strategy is not None and strategy.rolling_update is not None:
        surge, unavailable = strategy.rolling_update.max_surge, strategy.rolling_update.max_unavailable
    elif strategy is not None:
        surge, unavailable = 0, "100%"
    for rollout in loaded.scenario.rollouts:
        bounds.append(
            Bounds(
                surge if rollout.max_surge is None else rollout.max_surge,
                unavailable if rollout.max_unavailable is None else rollout.max_unavailable,
            )
        )
        manifest_s = 0 if spec is None else spec.min_ready_seconds
        min_ready_ps.append(to_ps(manifest_s if rollout.min_ready is None else rollout.min_ready))
    return bounds, min_ready_ps
