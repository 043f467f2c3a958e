"""Facts with their sources: GPUs, model shapes, prices."""

from simulator.catalog.gpus import Gpu, find_gpu, gpu_ids
from simulator.catalog.lookup import CatalogError
from simulator.catalog.models import (
    DTYPE_BYTES,
    Model,
    ModelShape,
    canonical_dtype,
    find_model,
    model_from_config,
    model_names,
)
from simulator.catalog.prices import Price, PriceKind, Quote, find_price, prices

__all__ = [
    "DTYPE_BYTES",
    "CatalogError",
    "Gpu",
    "Model",
    "ModelShape",
    "Price",
    "PriceKind",
    "Quote",
    "canonical_dtype",
    "find_gpu",
    "find_model",
    "find_price",
    "gpu_ids",
    "model_from_config",
    "model_names",
    "prices",
]
