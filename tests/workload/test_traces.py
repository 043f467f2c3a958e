from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.units import to_ps, to_s
from simulator.workload import RequestSpec

HEADER = "arrival_s,input_tokens,output_tokens"


@pytest.fixture
def replay(tmp_path: Path, arrivals: Any) -> Any:
    def run(rows: str, *, duration_s: float = 1000.0, entry: Any = None, **options: Any) -> list[RequestSpec]:
        (tmp_path / "t.csv").write_text(rows)
        trace = {"kind": "trace", "file": "t.csv", **options}
        return arrivals({"arrivals": trace, **(entry or {})}, duration_s=duration_s, base_dir=tmp_path)

    return run


def test_rows_as_they_are(replay: Any) -> None:
    specs = replay(HEADER + "\n0.5,10,1\n0.5,11,2\n7,12,3\n", entry={"max_tokens": "output", "priority": -1})
    assert [to_s(spec.arrival_ps) for spec in specs] == [0.5, 0.5, 7.0]
    assert [spec[3:6] for spec in specs] == [(10, 1, 1), (11, 2, 2), (12, 3, 3)]
    assert [spec.request_id for spec in specs] == [0, 1, 2]
    assert {spec.priority for spec in specs} == {-1}
    assert specs[0].segments == ()


def test_start_limit_time_scale_and_end(replay: Any) -> None:
    rows = HEADER + "".join(f"\n{t},{t + 1},1" for t in range(20))
    specs = replay(rows, start="5s", limit=4, time_scale=0.5)
    assert [to_s(spec.arrival_ps) for spec in specs] == [0.0, 0.5, 1.0, 1.5]
    assert [spec.prompt_tokens for spec in specs] == [6, 7, 8, 9]
    assert len(replay(rows, duration_s=5.0)) == 5
    assert len(replay(rows, duration_s=50.0, entry={"start": "10s", "duration": "3s"})) == 3


def test_prefix_blocks_become_segments(replay: Any) -> None:
    specs = replay(
        HEADER + ",prefix_block_ids\n0,40,5,7 8 9\n1,64,5,7 8\n", prefix_block_tokens=16, entry={"name": "a"}
    )
    one, two = (spec.segments for spec in specs)
    assert [end for _, end in one] == [16, 32, 40]  # the last block is partial
    assert two == one[:2]  # tokens 32 to 64 are the request's own


def test_spread_keeps_the_order_within_a_batch(replay: Any) -> None:
    rows = HEADER + "".join(f"\n{3 * (i // 10)},{i + 1},1" for i in range(1000))
    specs = replay(rows, spread="3s")
    assert [spec.prompt_tokens for spec in specs] == list(range(1, 1001))
    times = np.array([to_s(spec.arrival_ps) for spec in specs])
    base = 3.0 * (np.arange(1000) // 10)
    assert ((times >= base) & (times < base + 3)).all()
    assert np.mean(times - base) == pytest.approx(1.5, abs=0.1)
    # longer than the distance of the batches: they overlap, and still come in time order
    wide = replay(rows, spread="10s")
    assert [spec.arrival_ps for spec in wide] == sorted(spec.arrival_ps for spec in wide)
    assert len(wide) == 1000


@pytest.mark.parametrize("scale", [0.3, 1.7, 3.0])
def test_rate_scale_sends_each_row_so_often(replay: Any, scale: float) -> None:
    rows = HEADER + ",prefix_block_ids" + "".join(f"\n{i},{32},1,0 {i + 1}" for i in range(2000))
    specs = replay(rows, rate_scale=scale, prefix_block_tokens=16, duration_s=5000.0)
    assert len(specs) == pytest.approx(2000 * scale, abs=100)
    assert len({spec.request_id for spec in specs}) == len(specs)
    times = [spec.arrival_ps for spec in specs]
    assert times == sorted(times)
    assert times[-1] <= to_ps(2000)
    copies = Counter(spec.segments[1] for spec in specs)
    assert set(copies.values()) == {1}  # no copy hits the blocks of another
    assert len({spec.segments[0] for spec in specs}) == np.ceil(scale)


def test_azure_2023_conversation_in_full(traces_dir: Path, arrivals: Any) -> None:
    trace = {"kind": "trace", "file": "azure_llm_2023_conv.csv.gz"}
    specs = arrivals({"arrivals": trace}, duration_s=3600.0, base_dir=traces_dir)
    assert len(specs) == 19_366
    assert to_s(specs[-1].arrival_ps) == pytest.approx(3501.721937)
    assert np.mean([spec.prompt_tokens for spec in specs]) == pytest.approx(1154.697408, rel=1e-8)
    assert np.mean([spec.output_tokens for spec in specs]) == pytest.approx(211.125942, rel=1e-8)


def test_mooncake_conversation_reuses_prefixes(traces_dir: Path, arrivals: Any) -> None:
    """37.4 % of the input tokens lie in a prefix seen before, with a cache that forgets nothing."""
    trace = {
        "kind": "trace",
        "file": "mooncake_conversation.csv.gz",
        "prefix_block_tokens": 512,
        "spread": "3s",
    }
    specs = arrivals({"arrivals": trace}, duration_s=4000.0, base_dir=traces_dir)
    assert len(specs) == 12_031
    seen: set[tuple[int, int]] = set()
    hits = 0
    for spec in specs:
        start = 0
        for segment in spec.segments:
            if segment not in seen:
                break
            hits += segment[1] - start
            start = segment[1]
        seen.update(spec.segments)
    assert hits / sum(spec.prompt_tokens for spec in specs) == pytest.approx(0.374, abs=0.001)
    counts = np.histogram([to_s(spec.arrival_ps) for spec in specs], np.arange(0, 3538))[0]
    assert np.var(counts) / np.mean(counts) == pytest.approx(1.05, abs=0.05)


def test_sharegpt_keeps_its_partial_blocks_apart(traces_dir: Path, arrivals: Any) -> None:
    trace = {"kind": "trace", "file": "sharegpt_llama31_8b_300.csv.gz", "prefix_block_tokens": 16}
    specs = list(islice(arrivals({"arrivals": trace}, base_dir=traces_dir), 300))
    assert len(specs) == 300
    assert all(spec.segments[-1][1] <= spec.prompt_tokens for spec in specs)
