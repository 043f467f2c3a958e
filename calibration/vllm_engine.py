"""A real vLLM engine in this process: starts it as a plan says, and is the driver's client of it."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pyarrow as pa

from calibration.capture_format import CapturedEngine, CaptureError, CaptureManifest
from calibration.capture_run import new_manifest
from calibration.device_sampler import driver_version
from calibration.driver import Delivery, EngineTimes
from calibration.host_facts import gpu_id, host, plain, versions
from calibration.plan import LoadedPlan, PlannedEngine
from calibration.startup_log import errors, logging_config, read_log, startup_phases
from calibration.step_trace import TraceReader, request_name
from simulator.catalog import ModelShape


def model_config(shape: ModelShape) -> dict[str, Any]:
    """A Hugging Face ``config.json`` for a shape: the architecture that computes what the shape says.

    Raises:
        CaptureError: experts: give the plan a config.json.
    """
    if shape.experts:
        raise CaptureError("model: a shape with experts needs a config (path of its config.json)")
    family, kind = "LlamaForCausalLM", "llama"
    if shape.qk_norm:
        family, kind = "Qwen3ForCausalLM", "qwen3"
    elif shape.qkv_bias:
        family, kind = "Qwen2ForCausalLM", "qwen2"
    return {
        "architectures": [family],
        "model_type": kind,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.max_position_embeddings,
        "tie_word_embeddings": shape.tie_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def local_manifest(plan: LoadedPlan, gpu: str | None) -> CaptureManifest:
    """The manifest of a capture on this machine's device.

    Raises:
        CaptureError: vLLM is missing, or the catalog does not know the device.
    """
    try:
        import torch  # noqa: PLC0415
        import vllm  # noqa: PLC0415
        from vllm.platforms import current_platform  # noqa: PLC0415
    except ImportError as error:
        raise CaptureError(f"vLLM is not installed (extra vllm): {error}") from None
    facts = host()
    on_cpu = current_platform.is_cpu()
    name = str(facts.get("cpu", "CPU")) if on_cpu else str(current_platform.get_device_name())
    found = "CPU" if on_cpu else gpu or gpu_id(name)
    if found is None:
        raise CaptureError(f"no GPU of the catalog is called {name!r}: say which with --gpu ID")
    cuda = getattr(torch.version, "cuda", None)
    return new_manifest(
        plan,
        gpu=found,
        device_name=name,
        versions=versions(vllm=vllm.__version__, cuda=cuda, driver=driver_version()),
    )


class VllmEngine:
    """One engine process and its client side. Use as a context manager; leaving it ends the process.

    Args:
        plan: whole plan.
        engine: the one to start.
        scratch: folder for the trace, a model's config.json and logging settings.
        caches: folder of the compilation caches.
        log: file that the engine's log lines are appended to.

    Raises:
        CaptureError: vLLM is not installed, does not know an argument, or did not start.
    """

    def __init__(
        self, plan: LoadedPlan, engine: PlannedEngine, scratch: Path, caches: Path, log: Path
    ) -> None:
        self._plan = plan
        self._planned = engine
        self._scratch = scratch
        self._log = log
        self._trace_folder = scratch / "trace"
        self._compile_cache = self._prepare_caches(caches)
        self._prepare_environment()
        started = time.time()
        try:
            self._config, engine_class, usage = self._configure()
            # Ctrl-C reaches every process of the terminal; the engine must live until its trace is written.
            # Its processes inherit what is blocked here. (Starting multiprocessing's tracker unblocks it again.)
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._engine = engine_class.from_vllm_config(
                    self._config, usage_context=usage, disable_log_stats=False
                )
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        except CaptureError:
            raise
        except (Exception, SystemExit) as failure:
            told = errors(read_log(log, started))
            told.append(f"{type(failure).__name__}: {failure}")
            raise CaptureError(
                f"engine {engine.name} did not start (whole log: {log}): " + " | ".join(told[-2:])
            ) from failure
        self._startup = startup_phases(read_log(log, started), started, time.time())
        self._reader = TraceReader(self._trace_folder, skip_existing=True)
        gc.collect()
        gc.freeze()  # as vLLM's own server does: no long collections while requests stream

    def __enter__(self) -> VllmEngine:
        return self

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()
        self._engine.shutdown()
        del self._engine  # its finaliser wants a living interpreter
        gc.collect()

    def _prepare_caches(self, caches: Path) -> str:
        if self._planned.compile_cache == "cold":
            shutil.rmtree(caches, ignore_errors=True)
        filled = caches.exists() and any(caches.rglob("*.*"))
        for variable, name in (
            ("VLLM_CACHE_ROOT", "vllm"),
            ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
            ("TRITON_CACHE_DIR", "triton"),
        ):
            os.environ[variable] = str(caches / name)
        return "warm" if filled else "cold"

    def _prepare_environment(self) -> None:
        settings = self._scratch / "logging.json"
        settings.write_text(logging_config(self._log), encoding="utf-8")
        repository = str(Path(__file__).parent.parent)
        paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        os.environ |= {
            "VLLM_LOGGING_CONFIG_PATH": str(settings),
            "VLLM_LOGGING_LEVEL": "INFO",
            "VLLM_CONFIGURE_LOGGING": "1",
            "CALIBRATION_TRACE": str(self._trace_folder),
            "CALIBRATION_TRACE_DRIVEN": "1",
            # The engine's process imports the tracing scheduler.
            "PYTHONPATH": os.pathsep.join(dict.fromkeys([repository, *paths])),
        }
        for variable, value in (
            ("VLLM_NO_USAGE_STATS", "1"),
            ("TOKENIZERS_PARALLELISM", "false"),
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
        ):
            os.environ.setdefault(variable, value)
        if self._plan.plan.model.weights == "dummy":
            os.environ.setdefault("HF_HUB_OFFLINE", "1")

    def _model(self) -> str:
        model = self._plan.plan.model
        if model.weights == "real":
            return str(self._plan.path.parent / model.config) if model.config else model.name
        folder = self._scratch / "model"
        folder.mkdir(exist_ok=True)
        path = folder / "config.json"
        if model.config:
            source = self._plan.path.parent / model.config
            shutil.copy(source / "config.json" if source.is_dir() else source, path)
        else:
            path.write_text(json.dumps(model_config(self._plan.model.shape)), encoding="utf-8")
        return str(folder)

    def _configure(self) -> tuple[Any, Any, Any]:
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
            from vllm.platforms import current_platform  # noqa: PLC0415
            from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415
            from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415
        except ImportError as error:
            raise CaptureError(f"vLLM is not installed (extra vllm): {error}") from None
        known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
        for key in self._planned.vllm:
            if key not in known:
                raise CaptureError(
                    f"{self._plan.path}: engine {self._planned.name}: vllm.{key}: this vLLM has no such argument"
                )
        model = self._plan.plan.model
        arguments: dict[str, Any] = {
            "model": self._model(),
            "load_format": "dummy" if model.weights == "dummy" else "auto",
            "skip_tokenizer_init": True,
            "dtype": model.dtype,
            **self._planned.vllm,
        }
        if current_platform.is_cpu():
            arguments.setdefault("enforce_eager", True)
        # What the platform makes of async scheduling is known only afterwards, and each has its own class.
        asynchronous = bool(arguments.get("async_scheduling", True))
        for _ in range(2):
            name = "TracingAsyncScheduler" if asynchronous else "TracingScheduler"
            arguments["scheduler_cls"] = f"calibration.tracing_scheduler.{name}"
            config = AsyncEngineArgs(**arguments).create_engine_config(UsageContext.OPENAI_API_SERVER)
            if bool(config.scheduler_config.async_scheduling) == asynchronous:
                break
            asynchronous = not asynchronous
        return config, AsyncLLM, UsageContext.OPENAI_API_SERVER

    def facts(self) -> CapturedEngine:
        """What the engine was told and what it resolved to."""
        config = self._config
        parallel, cache, model = config.parallel_config, config.cache_config, config.model_config
        scheduler, compilation = config.scheduler_config, config.compilation_config
        settings = self._reader.settings()
        return CapturedEngine(
            name=self._planned.name,
            model=self._plan.model.name,
            shape=self._plan.model.shape,
            dtype=str(model.dtype).removeprefix("torch."),
            kv_cache_dtype=str(cache.cache_dtype),
            quantisation=model.quantization,
            tp=parallel.tensor_parallel_size,
            pp=parallel.pipeline_parallel_size,
            num_gpu_blocks=settings.pop("num_gpu_blocks"),
            block_size=settings.pop("block_size"),
            max_model_len=settings.pop("max_model_len"),
            max_num_batched_tokens=settings.pop("max_num_batched_tokens"),
            max_num_seqs=settings.pop("max_num_seqs"),
            gpu_memory_utilization=cache.gpu_memory_utilization,
            enforce_eager=bool(model.enforce_eager),
            async_scheduling=bool(scheduler.async_scheduling),
            enable_prefix_caching=bool(settings.pop("enable_prefix_caching")),
            scheduler={key: value for key, value in settings.items() if key != "async_scheduling"},
            attention_backend=self._attention_backend(),
            cudagraph_mode=getattr(compilation.cudagraph_mode, "name", None),
            cudagraph_sizes=list(compilation.cudagraph_capture_sizes or []),
            compile_cache="none" if model.enforce_eager else self._compile_cache,
            startup=self._startup,
            resolved=plain(config, {str(self._scratch): "<scratch>", str(self._log.parent): "<out>"}),
        )

    def _attention_backend(self) -> str | None:
        for _, text in read_log(self._log):
            before, marker, _ = text.partition(" attention backend")
            if marker and "Using " in before:
                return before.rpartition("Using ")[2].split()[0]
        return None

    # ---- calibration.driver.EngineClient

    async def add(
        self, number: int, prompt: list[int], output_tokens: int, priority: int, *, stream: bool
    ) -> AsyncIterator[Delivery]:
        from vllm.sampling_params import RequestOutputKind, SamplingParams  # noqa: PLC0415

        parameters = SamplingParams(
            max_tokens=output_tokens,
            ignore_eos=True,
            temperature=0.0,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
        )
        queue = await self._engine.add_request(
            request_name(number), {"prompt_token_ids": prompt}, parameters, priority=priority
        )
        return _deliveries(queue)

    async def pause(self) -> None:
        await self._engine.pause_generation(mode="keep", clear_cache=False)

    async def resume(self) -> None:
        # A call through the queue that the requests took: the engine has all of them now.
        await self._engine.is_paused()
        await self._engine.resume_generation()

    async def abort(self, numbers: Iterable[int]) -> None:
        await self._engine.abort([request_name(number) for number in numbers])

    @property
    def died(self) -> bool:
        return bool(self._engine.errored)

    def read_steps(self) -> pa.Table:
        return self._reader.read()


async def _deliveries(queue: Any) -> AsyncIterator[Delivery]:
    finished = False
    while not finished:
        output = queue.get_nowait() or await queue.get()
        finished = output.finished
        tokens = len(output.outputs[0].token_ids) if output.outputs else 0
        metrics = getattr(output, "metrics", None)
        times = None
        if finished and metrics is not None:
            times = EngineTimes(
                *(
                    float(getattr(metrics, name, 0.0) or 0.0)
                    for name in ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
                )
            )
        yield Delivery(tokens, times, output.num_cached_tokens)
