"""How good composed profiles are on what they were not fitted to.

    python -m calibration.heldout --tables DIR

Five tables:

1. LLMServingSim's operator tables: error of refits without whole rows (each number of requests, each chunk
   size in turn) and without every second column (contexts), by regime. Bars: median 2.5 %, p90 7 %.
2. aiconfigurator's GEMM grid: the products of a layer of Llama-3.1-8B and 70B, from the grid without the nearest
   measured number of columns.
3. Two measurements of one GPU: profiles of the RTX PRO 6000 from aiconfigurator's grids against those from
   LLMServingSim's tables of the very model, steps of a fixed grid (needs the package).
4. Batches of contexts that differ, LLMServingSim's: every second length held out, beside contexts of the same mean.
5. Steps of a running vLLM on H100 that nothing was fitted to, by trace. Bar for pure decode: median 10 %.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from calibration.aiconfigurator_tables import AiconfiguratorTables
from calibration.compose import (
    compose_aiconfigurator,
    compose_llmservingsim,
    llmservingsim_terms,
    operator_tables,
)
from calibration.fitting import Floats
from calibration.operator_tables import OperatorTables, TablesError, read_csv
from calibration.spread_contexts import excess_ns
from calibration.step_samples import TRACES, errors_by_regime
from simulator.catalog import CatalogError, find_gpu, find_model
from simulator.step_time.roofline import relative_errors

MEDIAN_BAR: Final = 2.5
P90_BAR: Final = 7.0
STEPS_BAR: Final = 10.0
_BELOW_ANY_KNEE: Final = 100_000
_GRID_GPUS: Final = ("A100-80GB-SXM", "H100-SXM", "H200-SXM")


def _cells(errors: Floats | Any) -> tuple[float, float, list[str]]:
    """(median, p90, cells) of absolute relative errors, in percent."""
    absolute = 100.0 * np.abs(np.asarray(errors, dtype=np.float64))
    median, p90 = float(np.median(absolute)), float(np.percentile(absolute, 90))
    bias = 100.0 * float(np.median(errors))
    return median, p90, [str(len(absolute)), f"{median:.2f}", f"{p90:.2f}", f"{bias:+.2f}"]


def operator_errors(tables: Path) -> list[list[str]]:
    """Rows of the first table: GPU, model, degree, regime, rows, median, p90, bias, verdict."""
    rows = []
    root = tables / "llmservingsim" if (tables / "llmservingsim").is_dir() else tables
    operators = _package_or(tables)
    for meta in sorted(root.glob("*/*/*/bf16/meta.yaml")):
        folder = meta.parent
        gpu, model = meta.relative_to(root).parts[0], "/".join(meta.relative_to(root).parts[1:3])
        for degree in sorted(int(path.name[2:]) for path in folder.glob("tp*")):
            label = [gpu, model.rsplit("/", 1)[-1], str(degree)]
            try:
                _, terms = llmservingsim_terms(folder, find_gpu(gpu), find_model(model), degree, operators)
            except TablesError as error:
                rows.append([*label, f"not composed: {error}", "", "", "", "", ""])
                continue
            for regime in terms.held_out.rows:
                median, p90, cells = _cells(terms.held_out.relative(regime))
                met = "met" if median <= MEDIAN_BAR and p90 <= P90_BAR else "missed"
                rows.append([*label, regime.replace("_", " "), *cells, met])
    return rows


def _package_or(tables: Path) -> OperatorTables | None:
    try:
        return OperatorTables()
    except TablesError:
        return operator_tables(tables)


def grid_errors(tables: Path) -> list[list[str]]:
    """Rows of the second table: GPU, weights, rows, median, p90, bias."""
    rows: list[list[str]] = []
    operators = operator_tables(tables)
    if operators is None:
        return rows
    for gpu in (find_gpu(name) for name in _GRID_GPUS):
        for dtype in ("bfloat16", "fp8") if gpu.fp8_flop_per_s else ("bfloat16",):
            errors = [
                _column_error(AiconfiguratorTables(operators, gpu, find_model(model).shape, tp, dtype))
                for model in ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B")
                for tp in (1, 4)
            ]
            rows.append([gpu.id, dtype, *_cells(np.concatenate(errors))[2]])
    return rows


def _column_error(tables: AiconfiguratorTables) -> Floats:
    """Relative error at the measured columns nearest to a layer's products, each left out."""
    errors: list[Floats] = [np.zeros(0)]
    for n, k in tables.products():
        columns = tables.gemm.columns(k)
        inner = columns[1:-1]
        nearest = min(inner, key=lambda column: abs(column - n))
        at_k = tables.gemm.nearest_k(k)
        tokens = tables.gemm.tokens()
        errors.append(
            tables.gemm.us(nearest, at_k, tokens, without_n=nearest) / tables.gemm.us(nearest, at_k, tokens)
            - 1.0
        )
    return np.concatenate(errors)


def source_differences(tables: Path) -> list[list[str]]:
    """Rows of the third table: model, degree, mean difference by regime; none without the package."""
    rows: list[list[str]] = []
    try:
        operators = OperatorTables()
    except TablesError:
        return rows
    gpu = find_gpu("RTXPRO6000")
    root = tables / "llmservingsim" / gpu.id
    for meta in sorted(root.glob("*/*/bf16/meta.yaml")):
        model = find_model("/".join(meta.relative_to(root).parts[:2]))
        for tp in sorted(int(path.name[2:]) for path in meta.parent.glob("tp*")):
            ours = compose_aiconfigurator(operators, gpu, model, tp)
            theirs = compose_llmservingsim(meta.parent, gpu, model, tp, operators)
            differences = relative_errors(ours, theirs)
            rows.append([model.name, str(tp), *(f"{100 * value:+.1f}" for value in differences.values())])
    return rows


def spread_errors(tables: Path) -> list[list[str]]:
    """Rows of the fourth table: GPU, model, degree, batches, what is taken, rows, median, p90, bias."""
    rows = []
    root = tables / "llmservingsim" if (tables / "llmservingsim").is_dir() else tables
    for file in sorted(root.glob("*/*/*/bf16/tp*/skew.csv*")):
        parts = file.relative_to(root).parts
        skew = read_csv(file.parent, "skew")
        skew = skew[(skew.regime == "pure") | (skew.n * skew.kv_big + skew.kp <= _BELOW_ANY_KNEE)]
        for regime, batches in skew.groupby("regime"):
            out = batches.kvs.isin(sorted(batches.kvs.unique())[1::2])
            test = batches[out]
            excess = test.n.map(excess_ns(batches[~out])).fillna(0.0) * (test.kv_big - test.kv_mean) / 1e3
            for what, predicted in (("mean", test.t_mean_us), ("mean and longest", test.t_mean_us + excess)):
                cells = _cells(predicted / test.t_skew_us - 1.0)[2]
                rows.append([parts[0], parts[2], parts[4][2:], str(regime), what, *cells])
    return rows


def step_errors(tables: Path) -> list[list[str]]:
    """Rows of the fifth table: trace, degree, regime, steps, median, p90, bias, verdict."""
    rows = []
    for trace, (_, tp) in TRACES.items():
        for regime, errors in errors_by_regime(tables, trace).items():
            median, _, cells = _cells(errors)
            verdict = ("met" if median <= STEPS_BAR else "missed") if regime == "pure decode" else ""
            rows.append([trace, str(tp), regime, *cells, verdict])
    return rows


def _print(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("GPU", "model", "regime", "trace") else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def main(tables: Annotated[Path, typer.Option(help="folder of operator tables and measured steps")]) -> None:
    """Print the errors of composed profiles on rows and steps that they were not fitted to."""
    console = Console(width=120)
    measures = ["rows", "median %", "p90 %", "bias %"]
    try:
        steps = step_errors(tables)
        _print(
            console,
            f"Operator tables, whole rows and columns held out (bars: median {MEDIAN_BAR} %, p90 {P90_BAR} %)",
            ["GPU", "model", "TP", "regime", *measures, "bar"],
            operator_errors(tables),
        )
        _print(
            console,
            "GEMM grid, the nearest measured column left out",
            ["GPU", "weights", *measures],
            grid_errors(tables),
        )
        _print(
            console,
            "RTX PRO 6000 from aiconfigurator's grids against LLMServingSim's tables of the model, mean %",
            ["model", "TP", "pure decode", "pure prefill", "mixed"],
            source_differences(tables),
        )
        _print(
            console,
            "Batches of contexts that differ, every second length held out",
            ["GPU", "model", "TP", "regime", "known", *measures],
            spread_errors(tables),
        )
        _print(
            console,
            f"Steps of a running vLLM on H100, not fitted (bar for pure decode: median {STEPS_BAR:.0f} %)",
            ["trace", "TP", "regime", *measures, "bar"],
            steps,
        )
    except (CatalogError, ValueError, OSError) as error:
        typer.echo(f"heldout: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
