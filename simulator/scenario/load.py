"""Loads a scenario and the files it names, and checks that they fit together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.scenario.autoscaling import AutoscalerPolicy
from simulator.scenario.engine import EngineSection
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests import DeploymentManifest, load_deployment
from simulator.scenario.overrides import apply_overrides
from simulator.scenario.policy_files import LoadedPolicy, load_policy
from simulator.scenario.schema import Scenario
from simulator.scenario.validation import validate
from simulator.scenario.vllm_config import VllmServeConfig, load_vllm_config, parse_vllm_config
from simulator.scenario.yaml_source import YamlSource


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
    return load_policy(policy, key, lambda name, *below: _named(source, name, *key, *below))


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
        notes.extend(loaded_policy.notes)
        scaled = loaded_policy.deployment
        if deployment is not None and scaled is not None and scaled != deployment.metadata.name:
            what = "HPA" if loaded_policy.policy.kind in ("hpa", "wva") else "ScaledObject"
            raise loaded.error(
                f"the {what} scales Deployment {scaled!r}, but the deployment's manifest is "
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
