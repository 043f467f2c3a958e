"""Closed-loop points that NVIDIA's aiconfigurator carries (``measured/aiconfigurator_silicon_dense.csv``).

One number each for TTFT and TPOT at a concurrency, prompt and answer length. Engine version and statistic are not
stated. Means are compared, medians given beside: the measured TTFT rises with the concurrency as a mean does, over
which the burst of the beginning is spread, while most requests of a closed loop meet an idle prefill. Every client
sends `REQUESTS_PER_CLIENT` requests, one after another, and all begin at once.

The points of Llama-3.1-70B have the models, GPUs, shapes and concurrencies of InferenceMAX, whose README of late 2025
gives the client's and the server's settings: lengths drawn from 0.8 to 1 times the nominal one (``random-range-ratio``
as vLLM's ``benchmark_serving.py`` had it until 2025), ``num-prompts`` 10 times the concurrency, ``max-num-seqs`` the
concurrency, ``max-num-batched-tokens`` 8192, no prefix cache, async scheduling. They are taken for its runs. Of the
other points nothing is known: vLLM's defaults and equal lengths.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import yaml

from simulator.catalog import Model, find_gpu, find_model
from simulator.scenario.errors import ScenarioError
from validation.deployment import Deployment, load_deployment
from validation.requests import RecordedRequest

FILE: Final = Path("measured/aiconfigurator_silicon_dense.csv")
REQUESTS_PER_CLIENT: Final = 10

_GPUS: Final = {
    "h100_sxm": "H100-SXM",
    "h200_sxm": "H200-SXM",
    "b200_sxm": "B200-SXM",
    "a100_sxm": "A100-80GB-SXM",
}
_MODELS: Final = {"nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Llama-3.1-8B-Instruct"}
_RANGE_RATIO: Final = 0.8
_REACHED: Final = {"fp8": 0.85, "bfloat16": 0.96}
"""Largest share of the data sheet's arithmetic rate among the large GEMMs of vLLM that aiconfigurator-core 0.12.0
measured on H100 and H200 (``gemm/vllm``: 1,654 of 1,979 TFLOP/s in fp8, 956 of 989 in bf16)."""


class PointSetting(NamedTuple):
    """What a group of points was measured on."""

    model: str
    gpu: str
    dtype: str
    tp: int


@dataclass(frozen=True)
class Point:
    """One measured point."""

    input_tokens: int
    output_tokens: int
    concurrency: int
    ttft_ms: float
    tpot_ms: float


def settings(data: Path) -> dict[PointSetting, list[Point]]:
    """The points of vLLM in one process group, by what they were measured on."""
    path = data / FILE
    if not path.is_file():
        return {}
    rows = pd.read_csv(path)
    rows = rows[(rows["engine"] == "vllm") & (rows["mode"] == "agg") & rows["concurrency"].notna()]
    rows = rows[rows["gpu"].isin(list(_GPUS)) & rows["precision"].fillna("bf16").isin(["fp8", "bf16"])]
    found: dict[PointSetting, list[Point]] = {}
    for row in rows.sort_values(["model", "gpu", "tp", "isl", "osl", "concurrency"]).to_dict("records"):
        setting = PointSetting(
            _MODELS.get(row["model"], row["model"]),
            _GPUS[row["gpu"]],
            "fp8" if row["precision"] == "fp8" else "bfloat16",
            int(row["tp"]),
        )
        point = Point(
            int(row["isl"]),
            int(row["osl"]),
            int(row["concurrency"]),
            float(row["ttft_ms"]),
            float(row["tpot_ms"]),
        )
        found.setdefault(setting, []).append(point)
    return found


def name_of(setting: PointSetting) -> str:
    """The case's name."""
    model = setting.model.rsplit("/", 1)[-1].lower()
    dtype = "bf16" if setting.dtype == "bfloat16" else setting.dtype
    return f"silicon--{setting.gpu.lower()}--{model}--{dtype}--tp{setting.tp}"


def is_inferencemax(setting: PointSetting) -> bool:
    """Whether points of this setting are taken for InferenceMAX's."""
    return setting.model == "meta-llama/Llama-3.1-70B"


def deployment(setting: PointSetting, point: Point) -> Deployment:
    """What a point ran on, as far as it is known.

    Raises:
        ScenarioError: the model does not fit.
    """
    config: dict[str, object] = {
        "model": setting.model,
        "tensor-parallel-size": setting.tp,
        "max-model-len": point.input_tokens + point.output_tokens + 200,
    }
    if is_inferencemax(setting):
        config |= {
            "gpu-memory-utilization": 0.9,
            "max-num-seqs": point.concurrency,
            "max-num-batched-tokens": 8192,
            "enable-prefix-caching": False,
        }
    if setting.dtype == "fp8":
        config["quantization"] = "fp8"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name_of(setting)}.yaml"
        path.write_text(yaml.safe_dump(config))
        return load_deployment(path, "auto", gpu=setting.gpu, vllm_version="0.26")


def requests(point: Point, setting: PointSetting) -> list[RecordedRequest]:
    """What the clients of a point send, in order."""
    count = point.concurrency * REQUESTS_PER_CLIENT
    ratio = _RANGE_RATIO if is_inferencemax(setting) else 1.0
    rng = np.random.default_rng(0)
    inputs, outputs = (
        rng.integers(int(nominal * ratio), nominal, size=count, endpoint=True).tolist()
        for nominal in (point.input_tokens, point.output_tokens)
    )
    return [RecordedRequest(0.0, *lengths) for lengths in zip(inputs, outputs, strict=True)]


def disbelieved(point: Point, setting: PointSetting) -> str | None:
    """Why a point is not believed: it beats the roofline; None if it may be true.

    The roofline has the data sheet's bandwidth and the best arithmetic rate that was ever measured.

    The KV cache is taken in 8 bits, all clients' answers as decoding together where it holds them.
    """
    gpu, model = find_gpu(setting.gpu), find_model(setting.model)
    bandwidth = setting.tp * gpu.hbm_bytes_per_s
    weights = model.shape.weight_bytes(setting.dtype)
    kv_bytes = model.shape.kv_bytes_per_token("fp8") * (point.input_tokens + point.output_tokens / 2)
    together = min(point.concurrency, (setting.tp * gpu.memory_bytes - weights) / kv_bytes)
    table = model.shape.vocab * model.shape.hidden * 2  # of the embeddings a step reads a few rows only
    step_ms = (weights - table + together * kv_bytes) / bandwidth * 1e3
    if point.tpot_ms < step_ms:
        return (
            f"TPOT {point.tpot_ms:.2f} ms is less than the {step_ms:.2f} ms that reading the weights and the KV "
            f"cache of {together:.0f} requests takes at the full bandwidth"
        )
    rate = setting.tp * gpu.flop_per_s(setting.dtype) * _REACHED[setting.dtype]
    prefill_ms = 2.0 * _matmul_parameters(model) * point.input_tokens / rate * 1e3
    if point.ttft_ms < prefill_ms:
        return (
            f"TTFT {point.ttft_ms:.1f} ms is less than the {prefill_ms:.1f} ms of the prompt at the best rate"
        )
    e2e_s = (point.ttft_ms + (point.output_tokens - 1) * point.tpot_ms) / 1e3
    # In the time of one request every client has one prompt computed and as many steps as answers have tokens. The
    # two may overlap in part (a step that computes prompts reads the weights once), not in whole.
    prompts_s = point.concurrency * prefill_ms / 1e3
    answers_s = point.output_tokens * step_ms / 1e3
    if e2e_s < prompts_s + answers_s:
        return (
            f"a request in {e2e_s:.2f} s: at the best rates the prompts of {point.concurrency} take {prompts_s:.2f} s "
            f"and the steps of an answer {answers_s:.2f} s"
        )
    return None


def _matmul_parameters(model: Model) -> float:
    """Weights that every token of a prompt multiplies with; the output head sees the last one only."""
    return float(model.shape.active_parameters - model.shape.vocab * model.shape.hidden)


def resolve(setting: PointSetting, point: Point) -> Deployment | str:
    """The deployment, or why there is none."""
    try:
        return deployment(setting, point)
    except ScenarioError as error:
        return str(error)
