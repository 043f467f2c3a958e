"""Tensor parallelism's communication: the all-reduces of a layer and the gathering of the logits.

From aiconfigurator's tables of vLLM's own all-reduce, which takes its custom kernel or NCCL by size as vLLM
does. Message sizes there are in elements. Steps of up to 512 tokens, the largest that vLLM captures by
default, take the rows measured inside a CUDA graph; larger ones run eagerly, where the input is copied into
the kernel's buffers first (12 to 15 % on H100).

Of the RTX PRO 6000's two tables the newer is taken, as everywhere; the older was measured without direct
access between the GPUs and takes 2 to 5 times as long. On the host of LLMServingSim's tables 16 MiB take
471 us (profiler/perf/RTXPRO6000/hardware.yaml), in the newer table 475 us.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from calibration.fitting import Floats
from calibration.operator_tables import OperatorTables, TablesError

GRAPH_TOKENS: Final = 512


class Collectives:
    """Communication of one GPU and tensor-parallel degree; free at degree 1.

    Raises:
        TablesError: the degree was not measured.
    """

    def __init__(self, tables: OperatorTables | None, gpu_id: str, tp: int) -> None:
        self.tp = tp
        self.version = ""
        if tp == 1:
            return
        if tables is None:
            raise TablesError(
                f"tp {tp} on {gpu_id} needs aiconfigurator's all-reduce tables: install the package, or keep "
                "the aic_*.csv files beside the others"
            )
        allreduce = tables.read("allreduce", gpu_id)
        nccl = tables.read("nccl", gpu_id)
        self.version = str(allreduce.vllm_version.iloc[0])
        mine = allreduce[allreduce.num_gpus == tp]
        if mine.empty:
            degrees = ", ".join(str(d) for d in sorted(allreduce.num_gpus.unique()))
            raise TablesError(f"all-reduce over {tp} {gpu_id} was not measured; there are: {degrees}")
        self._graph = self._curve(mine[mine.kernel_source == "vLLM_custom_graph"])
        self._eager = self._curve(mine[mine.kernel_source == "vLLM_custom_eager"])
        gather = nccl[(nccl.num_gpus == tp) & (nccl.op_name == "all_gather") & (nccl.nccl_dtype == "half")]
        self._gather = self._curve(gather)

    @staticmethod
    def _curve(rows: pd.DataFrame) -> tuple[Floats, Floats]:
        best = rows.groupby("message_size").latency_ms.min()
        return best.index.to_numpy(dtype=np.float64), best.to_numpy(dtype=np.float64) * 1e3

    def allreduce_us(self, tokens: Floats, hidden: int) -> Floats:
        """One all-reduce of ``tokens`` x ``hidden`` 16-bit elements."""
        if self.tp == 1:
            return np.zeros_like(tokens)
        graph, eager = (np.interp(tokens * hidden, *curve) for curve in (self._graph, self._eager))
        return np.asarray(np.where(tokens <= GRAPH_TOKENS, graph, eager), dtype=np.float64)

    def gather_us(self, sequences: Floats, vocab: int) -> Floats:
        """The logits of ``sequences`` tokens, sharded over the vocabulary, brought together."""
        if self.tp == 1:
            return np.zeros_like(sequences)
        return np.asarray(np.interp(sequences * vocab, *self._gather), dtype=np.float64)
