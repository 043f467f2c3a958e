"""GPUs: memory, bandwidth and arithmetic rates, each with its source (gpus.yaml)."""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel, ConfigDict, Field

from simulator.catalog.lookup import CatalogError, read_table, unknown_name

_ALIASES = {
    "A100": "A100-80GB-SXM",
    "A100-80GB": "A100-80GB-SXM",
    "A100-40GB": "A100-40GB-SXM",
    "H100": "H100-SXM",
    "H100-80GB-SXM": "H100-SXM",
    "H200": "H200-SXM",
    "H200-141GB-SXM": "H200-SXM",
    "B200": "B200-SXM",
}


class Gpu(BaseModel):
    """Facts of one GPU model; rates are dense and per device."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    memory_bytes: int = Field(gt=0, description="total memory as CUDA reports it")
    memory_note: str
    hbm_bytes_per_s: float = Field(gt=0)
    bf16_flop_per_s: float = Field(gt=0)
    fp8_flop_per_s: float | None = Field(description="None where the GPU has no fp8 tensor cores")
    sms: int = Field(gt=0, description="streaming multiprocessors")
    sm_clock_mhz: float = Field(gt=0, description="maximum boost clock of the SMs")
    tdp_w: float = Field(gt=0, description="the board's maximum power")
    interconnect: str
    interconnect_bytes_per_s: float = Field(gt=0, description="one direction, all links of one GPU")
    source: str

    def flop_per_s(self, dtype: str) -> float:
        """Dense tensor rate for weights of ``dtype``.

        A GPU without fp8 tensor cores runs fp8 weights at the bf16 rate (weight-only kernels).
        """
        if dtype == "fp8" and self.fp8_flop_per_s is not None:
            return self.fp8_flop_per_s
        if dtype == "float32":
            return self.bf16_flop_per_s / 2  # TF32
        return self.bf16_flop_per_s


@cache
def _gpus() -> dict[str, Gpu]:
    return {gpu_id: Gpu(id=gpu_id, **facts) for gpu_id, facts in read_table("gpus.yaml").items()}


def gpu_ids() -> list[str]:
    """All GPU ids, in the table's order."""
    return list(_gpus())


def find_gpu(name: str) -> Gpu:
    """The GPU of this id (case does not matter; ``H100`` and the like mean the SXM part).

    Raises:
        CatalogError: unknown id, with the close matches.
    """
    if name.casefold() == "cpu":
        raise CatalogError(
            "CPU is not a GPU: profiles captured on one check the calibration itself and no scenario can choose "
            f"them; GPUs: {', '.join(gpu_ids())}"
        )
    gpus = _gpus()
    by_folded = {gpu_id.casefold(): gpu_id for gpu_id in gpus}
    by_folded.update({alias.casefold(): gpu_id for alias, gpu_id in _ALIASES.items()})
    gpu_id = by_folded.get(name.casefold())
    if gpu_id is None:
        raise unknown_name("GPU", name, gpus)
    return gpus[gpu_id]


__all__ = ["CatalogError", "Gpu", "find_gpu", "gpu_ids"]
