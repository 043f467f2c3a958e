"""From a ``vllm serve`` configuration and a profile to what a replica is made of, without a scenario.

Resolution is the scenario's own (`simulator.resolve`). What is added here is what a replay does not have to be told:
a profile that is named knows its GPU, model, tensor-parallel degree and dtype.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from simulator.catalog import CatalogError, Model, find_model
from simulator.engines.vllm.rules import known_versions
from simulator.resolve import ReplicaPlan, resolve_replica
from simulator.scenario.engine import EngineSection
from simulator.scenario.errors import ScenarioError
from simulator.scenario.vllm_config import VllmServeConfig, load_vllm_config
from simulator.step_time import ProfileError, StepTimeProfile
from simulator.step_time.profile import load_profile
from simulator.step_time.select import shipped_profiles

WITHOUT_PROFILE: Final = ("auto", "roofline")


@dataclass(frozen=True)
class Deployment:
    """What is replayed on.

    Attributes:
        plan: the replica.
        notes: what a reader should know of how the configuration was understood.
    """

    plan: ReplicaPlan
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """Describes an engine to `resolve_replica`; errors name the configuration file and its keys."""

    engine: EngineSection
    vllm: VllmServeConfig
    base_dir: Path
    file: Path

    def error(self, reason: str, *key: str | int) -> ScenarioError:
        # Keys are the scenario's: here they are options, but for those of vLLM's configuration itself.
        options = {"gpu": "--gpu", "profile": "--profile", "vllm_version": "--vllm-version"}
        if len(key) > 1 and key[1] in options:
            return ScenarioError(reason, key=options[str(key[1])])
        return ScenarioError(reason, file=str(self.file))


def minor_version(version: str) -> str:
    """``0.19`` of ``v0.19.0``, ``0.19.0rc1`` or ``0.19``.

    Raises:
        ScenarioError: not a version, or one whose rules are not known.
    """
    match = re.match(r"v?(\d+)\.(\d+)", version.strip())
    if match is None:
        raise ScenarioError(f"expected a version such as 0.26.0, got {version!r}", key="--vllm-version")
    minor = f"{match[1]}.{match[2]}"
    if minor not in known_versions():
        raise ScenarioError(
            f"{version!r} is not known; known are {', '.join(known_versions())}", key="--vllm-version"
        )
    return minor


def load_deployment(
    engine: Path,
    profile: str,
    *,
    gpu: str | None = None,
    model: str | None = None,
    tp: int | None = None,
    vllm_version: str = "0.32",
    frontend_in_s: float | None = None,
    frontend_out_s: float | None = None,
    longest_request_tokens: int | None = None,
) -> Deployment:
    """Resolve what a benchmark ran on.

    Args:
        engine: a ``vllm serve --config`` YAML.
        profile: path or name of a profile, ``auto`` or ``roofline``.
        gpu: GPU id of the catalogue; needed for ``auto`` and ``roofline``.
        model: name or path of a ``config.json``; needed where neither the configuration nor the profile names one.
        tp: tensor-parallel degree, if the configuration does not say it.
        vllm_version: release that served, as ``vllm --version`` prints it.
        frontend_in_s: time from the send to the engine's queue; the profile's if None.
        frontend_out_s: time from the end of a step to the client; the profile's if None.
        longest_request_tokens: prompt and answer of the longest request that was served. Where the estimate of the
            KV cache cannot hold max-model-len, the real one did: this length is then taken for it.

    Raises:
        ScenarioError: the configuration or an option is wrong; names file, key and reason.
    """
    vllm = load_vllm_config(engine, refuse_unknown=False)
    notes = list(vllm.notes)
    version = minor_version(vllm_version)
    changes: dict[str, Any] = {}
    if tp is not None:
        if "tensor_parallel_size" in vllm.model_fields_set and vllm.tensor_parallel_size != tp:
            raise ScenarioError(
                f"{tp} is not the tensor-parallel-size {vllm.tensor_parallel_size} of {engine}", key="--tp"
            )
        changes["tensor_parallel_size"] = tp
    if profile in WITHOUT_PROFILE:
        if gpu is None:
            raise ScenarioError(f"is needed with --profile {profile}", key="--gpu")
        found = _model(model or vllm.model, engine)
    else:
        chosen = _profile(profile)
        gpu = gpu or chosen.identity.gpu
        notes += _adopt(chosen, vllm, changes)
        found = _model_of_profile(model or vllm.model, chosen, engine, notes)
    if changes:
        vllm = vllm.model_copy(update=changes)
    section = EngineSection(
        vllm={},
        gpu=gpu,
        profile=profile,
        vllm_version=version,
        frontend_in=frontend_in_s,
        frontend_out=frontend_out_s,
    )
    source = _Source(section, vllm, Path(), engine)
    try:
        plan = resolve_replica(source, model=found, trust_num_gpu_blocks=True)
    except ScenarioError as error:
        both_given = vllm.num_gpu_blocks_override is not None and "max_model_len" in vllm.model_fields_set
        if longest_request_tokens is None or both_given:
            raise
        shorter = vllm.model_copy(update={"max_model_len": longest_request_tokens})
        try:
            plan = resolve_replica(replace(source, vllm=shorter), model=found, trust_num_gpu_blocks=True)
        except ScenarioError:
            raise error from None
        notes.append(
            f"max-model-len {longest_request_tokens}, that of the longest request, for: {error.reason}"
        )
    return Deployment(plan, (*notes, *plan.notes))


def _profile(name: str) -> StepTimeProfile:
    shipped = shipped_profiles()
    if name in shipped:
        return shipped[name]
    if not Path(name).is_file():
        names = ", ".join((*WITHOUT_PROFILE, *shipped))
        raise ScenarioError(f"{name!r} is neither a file nor one of {names}", key="--profile")
    try:
        return load_profile(Path(name))
    except ProfileError as error:
        raise ScenarioError(str(error), key="--profile") from None


def _adopt(profile: StepTimeProfile, vllm: VllmServeConfig, changes: dict[str, Any]) -> list[str]:
    """Take from a profile what the configuration leaves open; returns notes."""
    notes = []
    identity = profile.identity
    written = vllm.model_fields_set | changes.keys()
    if "tensor_parallel_size" not in written and identity.tp != 1:
        changes["tensor_parallel_size"] = identity.tp
        notes.append(f"tensor-parallel-size {identity.tp}: the profile's")
    if identity.dtype == "fp8" and vllm.quantization in (None, "compressed-tensors", "modelopt"):
        changes["quantization"] = "fp8"
        notes.append("weights in fp8: the profile's")
    if identity.kv_cache_dtype == "fp8" and "kv_cache_dtype" not in written:
        changes["kv_cache_dtype"] = "fp8"
        notes.append("KV cache in fp8: the profile's")
    return notes


def _model(name: str | None, engine: Path) -> Model:
    if name is None:
        raise ScenarioError(f"{engine} names no model: say which", key="--model")
    beside = engine.parent / name
    try:
        return find_model(str(beside) if beside.exists() else name)
    except CatalogError as error:
        raise ScenarioError(str(error), key="--model") from None


def _model_of_profile(name: str | None, profile: StepTimeProfile, engine: Path, notes: list[str]) -> Model:
    """The model that was named, or, where nothing is known by that name, the one that the profile is of."""
    identity = profile.identity
    if name is not None:
        try:
            return _model(name, engine)
        except ScenarioError:
            notes.append(
                f"model {name} is not in the catalogue: taken to be of the profile's {identity.model}"
            )
    return Model(name=name or identity.model, shape=identity.shape, source=f"profile {profile.name}")
