"""From what a scenario says of its engine to what a replica is: model, step times, KV blocks, flags.

Resolved once per run, before anything is simulated, so that every mistake is told early and by key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from simulator.catalog import CatalogError, Gpu, Model, find_gpu, find_model, model_from_config
from simulator.cluster.pods import PodSpec
from simulator.cluster.probes import Probe
from simulator.scenario.vllm_config import resolve_engine_config
from simulator.step_time import (
    DoesNotFitError,
    ProfileError,
    ResolvedStepTime,
    load_step_time,
    num_kv_blocks,
)
from simulator.units import PS_PER_US, to_ps

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.engines.vllm.config import EngineConfig
    from simulator.scenario.engine import EngineSection
    from simulator.scenario.errors import ScenarioError
    from simulator.scenario.load import LoadedScenario
    from simulator.scenario.manifests.pod_template import Probe as ProbeManifest
    from simulator.scenario.vllm_config import VllmServeConfig


@dataclass(frozen=True)
class ReplicaPlan:
    """What one replica is made of.

    Attributes:
        gpus: GPUs of one replica (tensor × pipeline parallel).
        kv_blocks_from: where the number of KV blocks comes from, in words.
        frontend_in_ps: HTTP and the like, before the engine's queue.
        frontend_in_ps_per_token: tokenisation, per prompt token.
        frontend_out_ps: detokenisation and HTTP, after a step.
        gpu_memory_used_bytes: what a running engine holds of one GPU.
        notes: what a reader of the results must know.
    """

    gpu: Gpu
    model: Model
    gpus: int
    dtype: str
    step_time: ResolvedStepTime
    engine: EngineConfig
    kv_blocks_from: str
    weight_bytes: int
    enforce_eager: bool
    frontend_in_ps: int
    frontend_in_ps_per_token: int
    frontend_out_ps: int
    gpu_memory_used_bytes: float
    notes: tuple[str, ...]

    def frontend_in_of(self, prompt_tokens: int) -> int:
        """Time from the server's HTTP front end to the engine's queue, in picoseconds."""
        return self.frontend_in_ps + self.frontend_in_ps_per_token * prompt_tokens


class EngineSource(Protocol):
    """Where an engine is described: its section, vLLM's configuration, and how to name a mistake in them."""

    @property
    def engine(self) -> EngineSection: ...

    @property
    def vllm(self) -> VllmServeConfig: ...

    @property
    def base_dir(self) -> Path:
        """Folder that paths in the section are relative to."""

    def error(self, reason: str, *key: str | int) -> ScenarioError:
        """An error about a key, which begins with ``engine``."""


def resolve_replica(
    loaded: EngineSource, *, model: Model | None = None, trust_num_gpu_blocks: bool = False
) -> ReplicaPlan:
    """Everything about a replica that does not change during a run.

    Args:
        loaded: a scenario, or whatever else describes an engine.
        model: the model, if it is not to be looked up by the name in the vLLM configuration.
        trust_num_gpu_blocks: ``num-gpu-blocks-override`` is what a real engine had, so that it is not measured
            against an estimate of what the GPU holds.

    Raises:
        ScenarioError: unknown GPU, model or profile; a model that does not fit; flags that vLLM refuses.
    """
    section, vllm = loaded.engine, loaded.vllm
    try:
        gpu = find_gpu(section.gpu)
    except CatalogError as error:
        raise loaded.error(str(error), "engine", "gpu") from None
    if model is None:
        model = _model(loaded)
    if vllm.pipeline_parallel_size > 1:
        raise loaded.error(
            f"pipeline-parallel-size {vllm.pipeline_parallel_size} is not modelled; use tensor parallelism",
            "engine",
            "vllm",
        )
    tp = vllm.tensor_parallel_size
    dtype = _weight_dtype(loaded, model)
    max_model_len = vllm.max_model_len or model.shape.max_position_embeddings
    try:
        engine = resolve_engine_config(
            vllm,
            gpu_memory_bytes=gpu.memory_bytes,
            gpu_name=gpu.id,
            num_gpu_blocks=2**31,
            max_model_len=max_model_len,
            vllm_version=section.vllm_version,
        )
    except ValueError as error:
        raise loaded.error(str(error), "engine", "vllm") from None
    try:
        step_time = load_step_time(
            gpu.id,
            model,
            tp,
            dtype,
            vllm.enforce_eager,
            profile=_profile_path(loaded),
            kv_cache_dtype=vllm.kv_cache_dtype,
            max_num_seqs=engine.max_num_seqs,
            max_num_batched_tokens=engine.max_num_batched_tokens,
        )
    except (CatalogError, ProfileError) as error:
        raise loaded.error(str(error), "engine", "profile") from None
    blocks, source = _kv_blocks(
        loaded, gpu, model, dtype, engine, step_time, trust_override=trust_num_gpu_blocks
    )
    if (blocks - 1) * engine.block_size < engine.max_model_len:
        raise loaded.error(
            f"{blocks - 1} usable KV blocks of {engine.block_size} tokens ({source}) cannot hold one request of "
            f"max-model-len {engine.max_model_len}: lower max-model-len or give more memory",
            "engine",
            "vllm",
        )
    engine = replace(engine, num_gpu_blocks=blocks)
    front_end = step_time.frontend
    in_ps, per_token_ps = _us_to_ps(front_end.request_us), _us_to_ps(front_end.per_prompt_token_us)
    if section.frontend_in is not None:
        in_ps, per_token_ps = to_ps(section.frontend_in), 0
    out_ps = _us_to_ps(front_end.response_us) if section.frontend_out is None else to_ps(section.frontend_out)
    notes = []
    if not engine.version_is_checked:
        notes.append(
            f"vLLM {engine.vllm_version}: run by the rules of a newer release, not checked against it"
        )
    return ReplicaPlan(
        gpu=gpu,
        model=model,
        gpus=tp,
        dtype=dtype,
        step_time=step_time,
        engine=engine,
        kv_blocks_from=source,
        weight_bytes=model.shape.weight_bytes(dtype),
        enforce_eager=vllm.enforce_eager,
        frontend_in_ps=in_ps,
        frontend_in_ps_per_token=per_token_ps,
        frontend_out_ps=out_ps,
        gpu_memory_used_bytes=gpu.memory_bytes * _gpu_memory_utilization(vllm, engine),
        notes=tuple(notes),
    )


def _model(loaded: EngineSource) -> Model:
    path = loaded.engine.model_config_json
    try:
        if path is not None:
            described = model_from_config(loaded.base_dir / path)
            return described.model_copy(update={"name": loaded.vllm.model or described.name})
        if loaded.vllm.model is None:
            raise loaded.error("the vLLM configuration names no model", "engine", "vllm")
        return find_model(loaded.vllm.model)
    except CatalogError as error:
        key = ("engine", "model_config_json") if path is not None else ("engine", "vllm")
        raise loaded.error(str(error), *key) from None


def _gpu_memory_utilization(vllm: VllmServeConfig, engine: EngineConfig) -> float:
    """The flag's value, or its default in this release."""
    given = vllm.gpu_memory_utilization
    return engine.rules.gpu_memory_utilization if given is None else given


def _us_to_ps(microseconds: float) -> int:
    """Microseconds to picoseconds, rounded to nearest."""
    return round(microseconds * PS_PER_US)


_FP8: Final = frozenset({"fp8", "fp8_per_tensor", "fp8_per_channel", "fbgemm_fp8"})
"""vLLM's ``--quantization`` values that mean fp8 weights and activations, one scale per tensor, channel or token."""

_FROM_CHECKPOINT: Final = frozenset({"compressed-tensors", "modelopt"})
"""Values that only say how the checkpoint is to be read."""


def _weight_dtype(loaded: EngineSource, model: Model) -> str:
    """Type of the weights: quantised by flag, as the checkpoint is, or vLLM's ``dtype``."""
    vllm = loaded.vllm
    asked = vllm.quantization
    quantisation = model.quantisation if asked is None or asked in _FROM_CHECKPOINT else asked
    if quantisation is None and asked in _FROM_CHECKPOINT:
        raise loaded.error(
            f"quantization {asked}: {model.name} is not known to be quantised; give its config.json, or say fp8",
            "engine",
            "vllm",
        )
    if quantisation is None:
        return "bfloat16" if vllm.dtype == "auto" else vllm.dtype
    if quantisation not in _FP8:
        raise loaded.error(f"{quantisation} weights are not modelled; fp8 and none are", "engine", "vllm")
    return "fp8"


def _profile_path(loaded: EngineSource) -> str:
    """A profile given as a path is meant relative to the scenario."""
    profile = loaded.engine.profile
    beside = loaded.base_dir / profile
    return str(beside) if beside.is_file() else profile


def _kv_blocks(
    loaded: EngineSource,
    gpu: Gpu,
    model: Model,
    dtype: str,
    engine: EngineConfig,
    step_time: ResolvedStepTime,
    *,
    trust_override: bool,
) -> tuple[int, str]:
    """Number of KV blocks as vLLM counts them (its null block included), and where it comes from."""
    vllm = loaded.vllm
    override = vllm.num_gpu_blocks_override
    if override is not None and (override - 1) * engine.block_size < engine.max_model_len:
        # vLLM plans against what is left without its null block (v1/core/kv_cache_utils.py).
        raise loaded.error(
            f"one request of max_model_len {engine.max_model_len} does not fit {override - 1} usable KV blocks of "
            f"{engine.block_size} tokens: lower max-model-len or raise num-gpu-blocks-override",
            "engine",
            "vllm",
        )
    if override is not None and trust_override:
        return override, "num-gpu-blocks-override"
    try:
        blocks = num_kv_blocks(
            gpu,
            model.shape,
            dtype=dtype,
            kv_cache_dtype=vllm.kv_cache_dtype,
            tp=vllm.tensor_parallel_size,
            # An override takes what the GPU has, whatever share of it was meant.
            gpu_memory_utilization=1.0 if override is not None else _gpu_memory_utilization(vllm, engine),
            block_size=engine.block_size,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            max_num_seqs=engine.max_num_seqs,
            max_model_len=None if override is not None else engine.max_model_len,
            enforce_eager=vllm.enforce_eager,
            count_cuda_graphs=engine.rules.counts_cuda_graphs,
            recorded=None if override is not None else step_time.kv_cache,
        )
    except DoesNotFitError as error:
        raise loaded.error(str(error), "engine", "gpu") from None
    if override is not None:
        if override > blocks:
            raise loaded.error(
                f"num-gpu-blocks-override {override} is more than fits {vllm.tensor_parallel_size} x {gpu.id}: "
                f"there is room for {blocks} blocks of {engine.block_size} tokens",
                "engine",
                "vllm",
            )
        return override, "num-gpu-blocks-override"
    recorded = step_time.kv_cache is not None and step_time.kv_cache.num_blocks == blocks
    return blocks, "recorded with the profile" if recorded else "derived from GPU memory"


def pod_spec(loaded: LoadedScenario, plan: ReplicaPlan) -> PodSpec:
    """What every pod asks for: of the Deployment's manifest, or Kubernetes' defaults without one."""
    spec = PodSpec(
        model=plan.model.name,
        gpus=plan.gpus,
        shutdown_timeout_s=float(loaded.vllm.shutdown_timeout),
        eager=plan.enforce_eager,
        weight_bytes=plan.weight_bytes,
    )
    if loaded.deployment is None:
        return spec
    pod = loaded.deployment.pod
    server = next((c for c in pod.containers if c.gpus), pod.containers[0])
    return replace(
        spec,
        termination_grace_period_s=float(pod.termination_grace_period_seconds),
        pre_stop_s=pod.pre_stop_s,
        readiness_probe=_probe(server.readiness_probe),
        startup_probe=_probe(server.startup_probe),
        liveness_probe=_probe(server.liveness_probe),
    )


def _probe(manifest: ProbeManifest | None) -> Probe | None:
    if manifest is None:
        return None
    return Probe(
        initial_delay_s=float(manifest.initial_delay_seconds),
        period_s=float(manifest.period_seconds),
        success_threshold=manifest.success_threshold,
        failure_threshold=manifest.failure_threshold,
    )
