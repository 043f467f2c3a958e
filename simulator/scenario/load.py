"""Loads a scenario and the files it names, and checks that they fit together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.scenario.autoscaling import AutoscalerPolicy, HpaPolicy
from simulator.scenario.engine import EngineSection
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests import (
    DeploymentManifest,
    HpaManifest,
    load_deployment,
    load_hpa,
)
from simulator.scenario.overrides import apply_overrides
from simulator.scenario.schema import Scenario
from simulator.scenario.validation import validate
from simulator.scenario.vllm_config import VllmServeConfig, load_vllm_config, parse_vllm_config
from simulator.scenario.yaml_source import YamlSource


@dataclass(frozen=True)
class LoadedPolicy:
    """An autoscaling policy with the file that it names.

    Attributes:
        policy: the scenario's entry.
        key: where the scenario has it.
        manifest: what its file says, or None for a kind that names none.
        path: the file, or None.
    """

    policy: AutoscalerPolicy
    key: tuple[str | int, ...]
    manifest: HpaManifest | None = None
    path: Path | None = None


@dataclass(frozen=True)
class LoadedScenario:
    """A scenario with everything that it refers to.

    Attributes:
        scenario: the validated file, overrides applied.
        source: where it was read, for error messages.
        data: what was validated, as plain data (overrides applied).
        overrides: the ``--set`` assignments, as given.
        vllm: the ``vllm serve`` configuration.
        policies: what sets the number of replicas, with the files that it names; in the scenario's order.
        deployment: the Deployment's manifest, or None for defaults.
        notes: what a reader should know of how files were understood.
    """

    scenario: Scenario
    source: YamlSource
    data: dict[str, Any]
    overrides: tuple[str, ...]
    vllm: VllmServeConfig
    policies: tuple[LoadedPolicy, ...]
    deployment: DeploymentManifest | None
    notes: tuple[str, ...]

    @property
    def engine(self) -> EngineSection:
        """The scenario's engine."""
        return self.scenario.engine

    @property
    def base_dir(self) -> Path:
        """Folder that paths in the scenario are relative to."""
        return self.source.path.parent

    def error(self, reason: str, *key: str | int) -> ScenarioError:
        """An error about a key of this scenario."""
        return ScenarioError(reason, file=self.source.where(key), key=".".join(map(str, key)) or None)


def load_scenario(path: str | Path, overrides: Iterable[str] = ()) -> LoadedScenario:
    """Read a scenario file, apply overrides, and load the files that it names.

    Args:
        path: the scenario's YAML file.
        overrides: assignments such as ``workload.0.arrivals.rate=12/s``.

    Raises:
        ScenarioError: with file, key and reason, for the first thing that is wrong.
    """
    source = YamlSource(Path(path))
    overrides = tuple(overrides)
    data = apply_overrides(source.data, overrides)
    source.overrides = {tuple(text.partition("=")[0].split(".")): text for text in overrides}
    scenario = validate(Scenario, data, source)
    notes: list[str] = []

    vllm = _load_vllm(scenario, source)
    notes.extend(vllm.notes)
    policies = tuple(
        _load_policy(policy, source, index)
        for index, policy in enumerate(scenario.fleet.autoscaling.policies)
    )
    deployment_path = scenario.fleet.deployment
    deployment = (
        load_deployment(_named(source, deployment_path, "fleet", "deployment")) if deployment_path else None
    )
    loaded = LoadedScenario(scenario, source, data, overrides, vllm, policies, deployment, ())
    notes.extend(_check_fit(loaded))
    return LoadedScenario(scenario, source, data, overrides, vllm, policies, deployment, tuple(notes))


def _load_policy(policy: AutoscalerPolicy, source: YamlSource, index: int) -> LoadedPolicy:
    key = ("fleet", "autoscaling", "policies", index)
    if isinstance(policy, HpaPolicy):
        path = _named(source, policy.manifest, *key, "manifest")
        return LoadedPolicy(policy, key, load_hpa(path), path)
    return LoadedPolicy(policy, key)


def _named(source: YamlSource, name: str, *key: str | int) -> Path:
    """A file that the scenario names; which key does is part of the news that it is not there."""
    path = source.path.parent / name
    if not path.is_file():
        wrong = "expected a file, this is a folder" if path.is_dir() else "no such file"
        raise ScenarioError(f"{wrong}: {path}", file=source.where(key), key=".".join(map(str, key)))
    return path


def _load_vllm(scenario: Scenario, source: YamlSource) -> VllmServeConfig:
    given = scenario.engine.vllm
    if isinstance(given, str):
        return load_vllm_config(_named(source, given, "engine", "vllm"))
    try:
        return parse_vllm_config(given)
    except ScenarioError as error:
        key = f"engine.vllm.{error.key}" if error.key else "engine.vllm"
        raise ScenarioError(error.reason, file=source.where(key.split(".")), key=key) from None


def _check_fit(loaded: LoadedScenario) -> Sequence[str]:
    """What one file alone cannot tell."""
    notes: list[str] = []
    deployment = loaded.deployment
    for loaded_policy in loaded.policies:
        hpa = loaded_policy.manifest
        if hpa is None or deployment is None:
            continue
        target = hpa.spec.scale_target_ref
        if target.kind == "Deployment" and target.name != deployment.metadata.name:
            raise loaded.error(
                f"the HPA scales Deployment {target.name!r}, but the deployment's manifest is "
                f"{deployment.metadata.name!r}",
                *loaded_policy.key,
                "manifest",
            )
    if deployment is not None:
        gpus = loaded.vllm.tensor_parallel_size * loaded.vllm.pipeline_parallel_size
        asked = deployment.gpus
        if asked and asked != gpus:
            raise loaded.error(
                f"the pod asks for {asked} GPU(s), but vLLM runs on {gpus} "
                f"(tensor-parallel-size {loaded.vllm.tensor_parallel_size} × pipeline-parallel-size "
                f"{loaded.vllm.pipeline_parallel_size})",
                "fleet",
                "deployment",
            )
        if not asked:
            notes.append(f"deployment: no nvidia.com/gpu limit; {gpus} GPU(s) per pod, as vLLM needs")
        server = next((c for c in deployment.pod.containers if c.gpus), deployment.pod.containers[0])
        if server.readiness_probe is None and server.startup_probe is None:
            notes.append(
                "deployment: no readinessProbe: pods get requests as soon as their container runs, and fail them "
                "until vLLM listens"
            )
    if not loaded.policies and loaded.scenario.fleet.replicas is None and deployment is None:
        notes.append("fleet: neither replicas nor manifests; 1 replica")
    return notes
