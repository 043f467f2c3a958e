"""What a capture holds, as tables: ``python -m calibration.inspect DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from calibration.capture_format import Capture, CaptureError, read_capture

EXIT_BAD_INPUT: Final = 2

_SLOW_FACTOR: Final = 3.0
_SLOW_MS: Final = 3.0
_CLOCK_SPREAD: Final = 0.9
_BUSY_PCT: Final = 50


def step_table(capture: Capture) -> pd.DataFrame:
    """One row a step, flat.

    Columns: engine, stage, step, ``kind`` (decode, prefill, mixed), ``ms`` (the step: output taken less launch in
    sync mode; in async mode the time since the output before where a batch was in flight), ``decodes`` with
    their summed ``decode_context``, ``prompts`` with ``prompt_tokens`` and ``prompt_context``, ``preempted``,
    ``hits`` (admitted with cached tokens), ``waiting``, ``free_blocks``, ``schedule_ms``, ``update_ms``.
    """
    prompt_of = capture.requests["prompt_tokens"].to_numpy()
    asynchronous = [engine.async_scheduling for engine in capture.manifest.engines]
    rows: list[dict[str, Any]] = []
    last: dict[int, int] = {}
    for step in capture.steps.to_pylist():
        numbers = np.asarray(step["requests"])
        tokens, context = np.asarray(step["tokens"]), np.asarray(step["context"])
        decode = (tokens == 1) & (context >= prompt_of[numbers])
        engine = step["engine"]
        ms = (step["output_us"] - step["launch_us"]) / 1e3
        if asynchronous[engine] and step["depth"] and engine in last:
            ms = (step["output_us"] - last[engine]) / 1e3
        last[engine] = step["output_us"]
        cached = dict(zip(step["requests"], step["context"], strict=True))
        rows.append(
            {
                "engine": engine,
                "stage": step["stage"],
                "step": step["step"],
                "kind": "decode" if decode.all() else "mixed" if decode.any() else "prefill",
                "ms": ms,
                "decodes": int(decode.sum()),
                "decode_context": int(context[decode].sum()),
                "prompts": int((~decode).sum()),
                "prompt_tokens": int(tokens[~decode].sum()),
                "prompt_context": int(context[~decode].sum()),
                "preempted": len(step["preempted"]),
                "hits": sum(cached[number] > 0 for number in step["admitted"]),
                "waiting": step["waiting"],
                "free_blocks": step["free_blocks"],
                "schedule_ms": (step["launch_us"] - step["schedule_us"]) / 1e3,
                "update_ms": (step["update_us"] - step["output_us"]) / 1e3,
            }
        )
    return pd.DataFrame(rows)


def anomalies(capture: Capture, steps: pd.DataFrame) -> list[str]:
    """What deserves a look before a fit."""
    manifest, found = capture.manifest, []
    names = _stage_names(capture)
    for place, stage in enumerate(manifest.stages):
        if stage.status != "ok":
            found.append(f"{names[place]}: {stage.status}")
    requests = capture.requests.select(["stage", "status"]).to_pandas()
    for cut, count in requests[requests.status == "cut"].groupby("stage").size().items():
        found.append(f"{names[int(str(cut))]}: {count} requests were cut")
    measured = {k for k, stage in enumerate(manifest.stages) if stage.purpose == "calibration"}
    if len(steps):
        sweep = steps[steps.stage.isin(measured)]
        keys = ["stage", "decodes", "prompts", "prompt_tokens"]
        for (place, decodes, _, tokens), group in _groups(sweep, keys):
            median = group.ms.median()
            slow = group[(group.ms > _SLOW_FACTOR * median) & (group.ms > median + _SLOW_MS)]
            if len(group) >= 3 and len(slow):
                found.append(
                    f"{names[place]}: {len(slow)} of {len(group)} steps ({decodes} decodes, {tokens} prompt "
                    f"tokens) above {_SLOW_FACTOR:g} times their median {median:.2f} ms: up to {slow.ms.max():.1f} ms"
                )
    for sampled, sample in _device_by_stage(capture):
        clocks = sample[sample.utilisation_pct > _BUSY_PCT].sm_clock_mhz.dropna()
        if len(clocks) and clocks.quantile(0.1) < _CLOCK_SPREAD * clocks.quantile(0.9):
            low, high = clocks.quantile(0.1), clocks.quantile(0.9)
            found.append(f"{names[sampled]}: SM clock between {low:.0f} and {high:.0f} MHz while busy")
    return found


def _stage_names(capture: Capture) -> list[str]:
    engines = capture.manifest.engines
    return [f"{engines[stage.engine].name}/{stage.name}" for stage in capture.manifest.stages]


def _device_by_stage(capture: Capture) -> list[tuple[int, pd.DataFrame]]:
    device = capture.device.to_pandas()
    samples = []
    for place, stage in enumerate(capture.manifest.stages):
        sample = device[(device.t_us >= stage.start_us) & (device.t_us <= stage.end_us)]
        if len(sample):
            samples.append((place, sample))
    return samples


def _groups(steps: pd.DataFrame, keys: list[str]) -> list[tuple[tuple[int, ...], pd.DataFrame]]:
    """Steps by whole-number columns."""
    groups = []
    for key, group in steps.groupby(keys):
        assert isinstance(key, tuple)
        groups.append((tuple(int(str(part)) for part in key), group))
    return groups


def _table(title: str, head: list[str], rows: list[list[Any]], console: Console) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row))
    console.print()
    console.print(table)


def report(capture: Capture, console: Console) -> None:
    """Print everything."""
    manifest, names = capture.manifest, _stage_names(capture)
    made = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    console.print(f"{manifest.plan}: {manifest.model} on {manifest.gpu} ({manifest.device_name}); {made}")
    for engine in manifest.engines:
        phases = ", ".join(f"{p.phase} {p.end_s - p.start_s:.1f} s" for p in engine.startup)
        mode = "async" if engine.async_scheduling else "sync"
        console.print(
            f"engine {engine.name}: {mode}, {engine.num_gpu_blocks} blocks of {engine.block_size}, CUDA graphs "
            f"{engine.cudagraph_mode}, attention {engine.attention_backend}, caches {engine.compile_cache}; {phases}"
        )
    steps = step_table(capture)
    if len(steps):
        _table(
            "Steps by stage",
            [
                "stage",
                "purpose",
                "steps",
                "decode",
                "prefill",
                "mixed",
                "preempted",
                "hits",
                "ms",
                "most ms",
                "sched ms",
            ],
            [
                [
                    names[int(str(place))],
                    manifest.stages[int(str(place))].purpose,
                    len(group),
                    *(int((group.kind == kind).sum()) for kind in ("decode", "prefill", "mixed")),
                    int(group.preempted.sum()),
                    int(group.hits.sum()),
                    float(group.ms.median()),
                    float(group.ms.max()),
                    float(group.schedule_ms.median()),
                ]
                for place, group in steps.groupby("stage")
            ],
            console,
        )
        _sweep_tables(steps, capture, names, console)
    _loads(capture, names, console)
    _table(
        "Device while a stage ran (medians)",
        ["stage", "samples", "SM MHz", "memory MHz", "W", "°C", "use %"],
        [
            [
                names[place],
                len(sample),
                *(
                    float(sample[name].median())
                    for name in (
                        "sm_clock_mhz",
                        "memory_clock_mhz",
                        "power_w",
                        "temperature_c",
                        "utilisation_pct",
                    )
                ),
            ]
            for place, sample in _device_by_stage(capture)
        ],
        console,
    )
    for note in manifest.notes:
        console.print(f"note: {note}", markup=False)
    odd = anomalies(capture, steps)
    console.print(f"\n{len(steps)} steps, {capture.requests.num_rows} requests, {len(odd)} anomalies")
    for text in odd:
        console.print(f"! {text}", markup=False)


def _sweep_tables(steps: pd.DataFrame, capture: Capture, names: list[str], console: Console) -> None:
    stages = capture.manifest.stages
    sweep = steps[
        [stages[place].kind != "load" and stages[place].purpose != "warmup" for place in steps.stage]
    ]
    decode = sweep[sweep.kind == "decode"]
    _table(
        "Pure decode",
        ["stage", "batch", "mean context", "steps", "ms", "p95 ms"],
        [
            [
                names[key[0]],
                key[1],
                round(group.decode_context.mean() / key[1]),
                len(group),
                float(group.ms.median()),
                float(group.ms.quantile(0.95)),
            ]
            for key, group in _groups(decode, ["stage", "decodes"])
            if len(group) >= 3
        ],
        console,
    )
    for title, kind, keys in (
        ("Prefill alone", "prefill", ["stage", "prompts", "prompt_tokens"]),
        ("Mixed", "mixed", ["stage", "decodes", "prompt_tokens"]),
    ):
        _table(
            title,
            [*keys, "mean context", "steps", "ms", "most ms"],
            [
                [
                    names[key[0]],
                    *key[1:],
                    round(float((group.prompt_context / group.prompts).mean())),
                    len(group),
                    float(group.ms.median()),
                    float(group.ms.max()),
                ]
                for key, group in _groups(sweep[sweep.kind == kind], keys)
                if len(group) >= 2
            ],
            console,
        )


def _loads(capture: Capture, names: list[str], console: Console) -> None:
    requests = capture.requests.to_pandas()
    rows = []
    for place, stage in enumerate(capture.manifest.stages):
        sent = requests[requests.stage == place]
        ended = sent[(sent.status == "finished") & sent.first_token_us.notna()]
        if stage.kind != "load" or ended.empty:
            continue
        ttft = (ended.first_token_us - ended.submitted_us) / 1e3
        gaps = np.concatenate([np.asarray(gaps, dtype=np.float64) for gaps in ended.token_gaps_us]) / 1e3
        span_s = float(ended.last_token_us.max() - ended.submitted_us.min()) / 1e6
        late = float((sent.submitted_us - sent.due_us).max()) / 1e3
        itl = [float(np.quantile(gaps, q)) for q in (0.5, 0.95, 0.99)] if len(gaps) else ["", "", ""]
        rows.append(
            [
                names[place],
                stage.regime,
                len(sent),
                len(ended),
                len(ended) / span_s,
                float(ended.output_tokens.sum()) / span_s,
                float(ttft.quantile(0.5)),
                float(ttft.quantile(0.95)),
                *itl,
                late,
            ]
        )
    head = [
        "stage",
        "regime",
        "sent",
        "ended",
        "req/s",
        "tok/s",
        "TTFT p50",
        "p95",
        "ITL p50",
        "p95",
        "p99",
        "late",
    ]
    _table("Loads as the client saw them (ms)", head, rows, console)


def main(folder: Annotated[Path, typer.Argument(help="Folder of a capture.")]) -> None:
    """Print what a capture holds, and what deserves a look before a fit."""
    console = Console(width=None if Console().is_terminal else 150)
    try:
        report(read_capture(folder), console)
    except CaptureError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None


if __name__ == "__main__":
    typer.run(main)
