"""Where NVIDIA aiconfigurator's operator tables come from: a folder of CSV exports, or the installed package.

The package (PyPI ``aiconfigurator-core`` 0.12.0, Apache-2.0; extra ``aiconfigurator``) keeps one Parquet file
per operator under ``systems/data/<system>/<family>/<framework>/<version>/``. The CSV exports hold the same
rows with seven significant digits, and the Parquet rows are rounded alike, so that both give the same
profile. The files are read; the package's own estimator is not asked (see docs/background/step-times.md).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

PACKAGE: Final = "aiconfigurator-core"
PACKAGE_VERSION: Final = "0.12.0"
PACKAGE_DATE: Final = "2026-08-31"
"""Newest collection that the release states; the GEMM and attention tables do not date themselves."""
DIGITS: Final = 7

SYSTEMS: Final = {
    "A100-80GB-SXM": "a100_sxm",
    "H100-SXM": "h100_sxm",
    "H200-SXM": "h200_sxm",
    "B200-SXM": "b200_sxm",
    "L40S": "l40s",
    "RTXPRO6000": "rtx_pro_6000_server",
}
"""GPU id to the tables' ``system``."""

# Table: folder of the family, framework, file name; CSV file name.
_PARQUET: Final = {
    "gemm": ("gemm", "vllm", "gemm_perf"),
    "context_attention": ("attention", "vllm", "context_attention_perf"),
    "generation_attention": ("attention", "vllm", "generation_attention_perf"),
    "allreduce": ("comm", "vllm", "custom_allreduce_perf"),
    "nccl": ("comm", "nccl", "nccl_perf"),
    "moe": ("moe", "vllm", "moe_perf"),
}
_CSV: Final = {
    "gemm": "aic_gemm_vllm",
    "context_attention": "aic_context_attention_vllm",
    "generation_attention": "aic_generation_attention_vllm",
    "allreduce": "aic_custom_allreduce_vllm",
    "nccl": "aic_nccl",
    "moe": "aic_moe_vllm",
}


class TablesError(ValueError):
    """Tables that are missing or do not cover what was asked; the message says what there is."""


def read_csv(folder: Path, name: str) -> pd.DataFrame:
    """``name``.csv or ``name``.csv.gz of a folder.

    Raises:
        FileNotFoundError: neither is there.
    """
    for suffix in (".csv", ".csv.gz"):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return pd.read_csv(path)
    raise FileNotFoundError(f"{folder}: neither {name}.csv nor {name}.csv.gz")


@lru_cache(maxsize=8)
def _csv(folder: Path, name: str) -> pd.DataFrame:
    return read_csv(folder, name)


def _release(text: object) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in str(text).split("."))


def _newest(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of the newest release that measured the operator."""
    newest = max(table[column].unique(), key=_release)
    rows: pd.DataFrame = table[table[column] == newest]
    return rows


@lru_cache(maxsize=64)
def _parquet(root: Path, system: str, table: str) -> pd.DataFrame:
    family, framework, name = _PARQUET[table]
    found = sorted(
        (root / system / family / framework).glob(f"*/{name}.parquet"), key=lambda p: _release(p.parent.name)
    )
    if not found:
        raise TablesError(f"{PACKAGE} has no {table} table of {framework} for {system}")
    rows = pd.read_parquet(found[-1])
    digits = DIGITS - 1 - np.floor(np.log10(rows.latency.to_numpy(dtype=np.float64)))
    scale = 10.0**digits
    latency = rows.latency.to_numpy(dtype=np.float64)
    rows["latency_ms"] = np.round(latency * scale) / scale
    if "window_size" in rows:
        rows = rows[rows.window_size == 0]
    if table == "generation_attention":
        rows = rows.rename(columns={"step": "kv_len_minus_1"})
    column = "nccl_version" if table == "nccl" else "vllm_version"
    return rows.drop(columns=["latency"]).rename(columns={"version": column})


class OperatorTables:
    """The tables of all systems.

    Args:
        folder: where the ``aic_*.csv`` files are; None for the installed package.

    Raises:
        TablesError: the package is not installed or not of the release that these readers know, or the
            folder has no ``aic_gemm_vllm.csv``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        if folder is not None:
            if not list(folder.glob("aic_gemm_vllm.csv*")):
                raise TablesError(f"{folder}: aic_gemm_vllm.csv is not there")
            self._root = folder
            return
        try:
            installed = version(PACKAGE)
            spec = find_spec("aiconfigurator_core")
        except PackageNotFoundError:
            spec = None
        if spec is None or spec.origin is None:
            raise TablesError(
                f"no --tables given and {PACKAGE} is not installed: "
                f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION} packaging pyyaml"
            )
        if installed != PACKAGE_VERSION:
            raise TablesError(
                f"{PACKAGE} {installed} is installed; the readers know {PACKAGE_VERSION}, whose rows the "
                f"shipped profiles are of: pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
            )
        self._root = Path(spec.origin).parent / "systems" / "data"

    def system(self, gpu_id: str) -> str:
        """The tables' name of a GPU.

        Raises:
            TablesError: there are none for it.
        """
        if gpu_id not in SYSTEMS:
            raise TablesError(f"no aiconfigurator tables for {gpu_id}; there are: {', '.join(SYSTEMS)}")
        return SYSTEMS[gpu_id]

    def read(self, table: str, gpu_id: str) -> pd.DataFrame:
        """Rows of one table for one GPU, of the newest release that measured it.

        Args:
            table: ``gemm``, ``context_attention``, ``generation_attention``, ``allreduce``, ``nccl``, ``moe``.
            gpu_id: of the catalog.

        Raises:
            TablesError: the table or the GPU is missing.
        """
        system = self.system(gpu_id)
        if self.folder is None:
            return _parquet(self._root, system, table)
        try:
            rows = _csv(self.folder, _CSV[table])
        except FileNotFoundError as error:
            raise TablesError(
                f"{error}; {PACKAGE} {PACKAGE_VERSION} has that table (leave --tables out)"
            ) from None
        mine = rows[rows.system == system]
        if mine.empty:
            there = [gpu for gpu, name in SYSTEMS.items() if name in set(rows.system)]
            raise TablesError(
                f"{self.folder}: {_CSV[table]}.csv has no rows for {gpu_id}, only for {', '.join(there)}; "
                f"{PACKAGE} {PACKAGE_VERSION} may have them (leave --tables out)"
            )
        return _newest(mine, "nccl_version" if table == "nccl" else "vllm_version")


def fingerprint(rows: pd.DataFrame) -> str:
    """Number of rows and a hash of their times, the same for the package and its CSV export."""
    picoseconds = np.sort(np.rint(rows.latency_ms.to_numpy(dtype=np.float64) * 1e9).astype("<i8"))
    return f"{len(rows)} rows, sha256 {hashlib.sha256(picoseconds.tobytes()).hexdigest()[:16]}"


def unique_pairs(table: pd.DataFrame, columns: list[str]) -> str:
    """What of some columns there is, for an error message."""
    rows = table[columns].drop_duplicates().sort_values(columns)
    return ", ".join("/".join(str(value) for value in row) for row in rows.itertuples(index=False))
