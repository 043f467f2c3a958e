"""A running OpenAI-compatible server as the driver's engine: loads only, over ``/v1/completions``.

What a server says of itself comes from ``/version``, ``/v1/models`` and the labels of ``vllm:cache_config_info`` in
``/metrics``. Steps are known only if it runs with `calibration.tracing_scheduler` and its trace's folder can be read
here; its clock is then this machine's too.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from calibration.capture_format import CapturedEngine, CaptureError, CaptureManifest
from calibration.capture_run import new_manifest
from calibration.driver import Delivery
from calibration.host_facts import gpu_id, versions
from calibration.plan import LoadedPlan, PlannedEngine
from calibration.step_trace import TRACE, TraceReader, request_name

_TIMEOUT_S: Final = 10.0
_TRACE_WAIT_S: Final = 3.0
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def _get(url: str, path: str) -> str:
    try:
        with urllib.request.urlopen(url.rstrip("/") + path, timeout=_TIMEOUT_S) as answer:
            body: bytes = answer.read()
            return body.decode()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise CaptureError(f"{url}{path}: {error}") from None


def cache_labels(metrics: str) -> dict[str, str]:
    """Labels of ``vllm:cache_config_info`` in a page of Prometheus metrics; empty without it."""
    for line in metrics.splitlines():
        if line.startswith("vllm:cache_config_info{"):
            return dict(_LABEL.findall(line))
    return {}


def api_manifest(plan: LoadedPlan, url: str, gpu: str | None) -> CaptureManifest:
    """The manifest of a capture of a running server.

    Raises:
        CaptureError: it does not answer, or its GPU was not named.
    """
    if gpu is None:
        raise CaptureError(
            "--api-url: say what the server runs on with --gpu (a GPU id of the catalog, or CPU)"
        )
    if gpu != "CPU" and gpu_id(f"NVIDIA {gpu}") is None:
        raise CaptureError(f"--gpu: the catalog has no {gpu!r}")
    found = json.loads(_get(url, "/version"))
    manifest = new_manifest(
        plan,
        gpu=gpu,
        device_name=gpu,
        versions={"python": versions()["python"], "vllm": str(found.get("version"))},
    )
    manifest.notes.append("captured over the API of a running server: host facts are the client's")
    return manifest


class ApiEngine:
    """A server, as the driver's engine and as a context manager.

    Args:
        plan: whole plan.
        engine: what of it the server stands for; its ``vllm`` must give what no server tells.
        url: of the server.
        trace: folder of its tracing scheduler, or None.

    Raises:
        CaptureError: the server does not answer or does not serve the plan's model, or the plan leaves out
            max_num_seqs or max_num_batched_tokens of an engine without a trace.
    """

    def __init__(self, plan: LoadedPlan, engine: PlannedEngine, url: str, trace: Path | None) -> None:
        try:
            import aiohttp  # noqa: PLC0415
        except ImportError:
            raise CaptureError("--api-url needs aiohttp (extra api)") from None
        self._http: Any = aiohttp
        self._plan, self._planned, self._url = plan, engine, url.rstrip("/")
        self._reader = TraceReader(trace, skip_existing=True) if trace is not None else None
        self._models = json.loads(_get(url, "/v1/models"))["data"]
        self._metrics = cache_labels(_get(url, "/metrics"))
        self._served = self._models[0]["id"]
        self._session: Any = None
        self._answers: dict[int, Any] = {}
        self._failures = 0

    def __enter__(self) -> ApiEngine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def facts(self) -> CapturedEngine:
        """What the server says, completed by the plan."""
        told: dict[str, Any] = {**self._planned.vllm}
        if self._reader is not None:
            told |= self._reader.settings()
        labels = self._metrics
        number = labels.get("num_gpu_blocks", "None")
        told.setdefault("num_gpu_blocks", int(number) if number.isdigit() else None)
        told.setdefault("block_size", int(labels["block_size"]) if "block_size" in labels else None)
        told.setdefault("max_model_len", self._models[0].get("max_model_len"))
        for key in (
            "num_gpu_blocks",
            "block_size",
            "max_model_len",
            "max_num_seqs",
            "max_num_batched_tokens",
        ):
            if told.get(key) is None:
                raise CaptureError(
                    f"{self._plan.path}: engine {self._planned.name}: vllm.{key}: the server does not tell it"
                )
        caching = labels.get("enable_prefix_caching", "True") == "True"
        return CapturedEngine(
            name=self._planned.name,
            model=self._plan.model.name,
            shape=self._plan.model.shape,
            dtype=self._plan.plan.model.dtype,
            kv_cache_dtype=labels.get("cache_dtype", "auto"),
            tp=int(told.get("tensor_parallel_size", 1)),
            pp=int(told.get("pipeline_parallel_size", 1)),
            num_gpu_blocks=told["num_gpu_blocks"],
            block_size=told["block_size"],
            max_model_len=told["max_model_len"],
            max_num_batched_tokens=told["max_num_batched_tokens"],
            max_num_seqs=told["max_num_seqs"],
            gpu_memory_utilization=float(labels.get("gpu_memory_utilization", 0.92)),
            enforce_eager=bool(told.get("enforce_eager", False)),
            async_scheduling=bool(told.get("async_scheduling", True)),
            enable_prefix_caching=bool(told.get("enable_prefix_caching", caching)),
            scheduler=self._scheduler_settings(told),
            compile_cache="none",
            startup=[],
            resolved={"served_model": self._served, "cache_config_info": labels},
        )

    def _scheduler_settings(self, told: dict[str, Any]) -> dict[str, Any]:
        elsewhere = set(CapturedEngine.model_fields) | set(self._planned.vllm)
        return {key: value for key, value in told.items() if key not in elsewhere}

    # ---- calibration.driver.EngineClient

    async def add(
        self, number: int, prompt: list[int], output_tokens: int, priority: int, *, stream: bool
    ) -> AsyncIterator[Delivery]:
        if self._session is None:
            http = self._http
            self._session = http.ClientSession(
                timeout=http.ClientTimeout(total=None), connector=http.TCPConnector(limit=0)
            )
        body = {
            "model": self._served,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "priority": priority,
        }
        if not priority:
            del body["priority"]  # a server with the default policy refuses it
        return self._stream(number, body)

    async def _stream(self, number: int, body: dict[str, Any]) -> AsyncIterator[Delivery]:
        headers = {"X-Request-Id": request_name(number)}
        seen = 0
        async with self._session.post(f"{self._url}/v1/completions", json=body, headers=headers) as answer:
            if answer.status != 200:
                raise CaptureError(f"{self._url}: {answer.status}: {(await answer.text())[:200]}")
            self._answers[number] = answer
            try:
                async for line in answer.content:
                    if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                        continue
                    data = json.loads(line[6:])
                    usage = data.get("usage")
                    if data.get("choices"):
                        # Events tell no number of tokens; one step gives one. The usage at the end corrects it.
                        seen += 1
                        yield Delivery(1)
                    elif usage:
                        details = usage.get("prompt_tokens_details") or {}
                        yield Delivery(
                            usage["completion_tokens"] - seen, cached_tokens=details.get("cached_tokens")
                        )
            finally:
                self._answers.pop(number, None)

    async def pause(self) -> None:
        """A server cannot be paused; its trace is written when it has been idle for a second or two."""
        if self._reader is not None:
            await asyncio.sleep(_TRACE_WAIT_S)

    async def resume(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def abort(self, numbers: Iterable[int]) -> None:
        """Hang up: vLLM aborts what nobody listens to."""
        for number in numbers:
            if (answer := self._answers.get(number)) is not None:
                answer.close()

    @property
    def died(self) -> bool:
        return False

    def read_steps(self) -> pa.Table:
        return TRACE.empty_table() if self._reader is None else self._reader.read()
