from pathlib import Path
from types import SimpleNamespace

import pytest

from calibration.step_trace import StepTrace, TraceReader, request_name, request_number


@pytest.mark.parametrize(
    ("name", "number"),
    [("capture-17", 17), ("cmpl-capture-3-0-1a2b3c4d", 3), ("capture-5-0f0f0f0f", 5), ("other-7", -1)],
)
def test_request_numbers(name: str, number: int) -> None:
    assert request_number(name) == number


def schedule(
    trace: StepTrace, key: int, tokens: dict[int, int], context: dict[int, int], new: list[int]
) -> None:
    cached = [n for n in tokens if n not in new]
    trace.scheduled(
        key,
        trace.num_in_flight,
        key * 1000,
        {request_name(n) + "-abcd0123": count for n, count in tokens.items()},
        (
            ([f"capture-{n}-abcd0123" for n in cached], [context[n] for n in cached]),
            ([f"capture-{n}-abcd0123" for n in new], [context[n] for n in new]),
        ),
        ([f"capture-{n}-abcd0123" for n in new], ()),
        [SimpleNamespace(request_id=f"capture-{n}-abcd0123") for n in tokens],
        1,
        50,
    )


def test_what_is_written(tmp_path: Path) -> None:
    trace = StepTrace(tmp_path, {"policy": "fcfs"})
    reader = TraceReader(tmp_path)
    assert reader.settings() == {"policy": "fcfs"}
    trace.arrived("capture-0-abcd0123")
    trace.arrived("capture-1-abcd0123")
    schedule(trace, 1, {1: 8, 0: 4}, {0: 16, 1: 0}, [1, 0])
    schedule(trace, 2, {0: 1}, {0: 20}, [])  # a second batch in flight
    trace.output(1, 1500)
    trace.freed("capture-1-abcd0123")
    trace.flush()
    (row,) = reader.read().to_pylist()
    assert (row["step"], row["depth"], row["schedule_ns"], row["output_ns"]) == (0, 0, 1000, 1500)
    assert (row["requests"], row["tokens"], row["context"]) == ([1, 0], [8, 4], [0, 16])
    assert (row["admitted"], row["running"], row["arrived"]) == ([1, 0], [1, 0], [0, 1])
    assert (row["waiting"], row["free_blocks"]) == (1, 50)
    trace.output(2, 2500)
    trace.preempted("capture-0-abcd0123")
    schedule(trace, 3, {2: 1}, {2: 0}, [2])
    trace.output(3, 3500)
    trace.output(99, 0)  # nothing that was recorded
    trace.flush()
    trace.flush()
    second, third = reader.read().to_pylist()
    assert (second["depth"], second["admitted"], second["finished"]) == (1, [], [])
    assert (third["step"], third["preempted"], third["finished"]) == (2, [0], [1])
    assert reader.read().num_rows == 0
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["00000.parquet", "00001.parquet"]


def test_a_later_engine_goes_on_in_the_folder(tmp_path: Path) -> None:
    for _ in range(2):
        trace = StepTrace(tmp_path, {})
        reader = TraceReader(tmp_path, skip_existing=True)
        schedule(trace, 1, {0: 1}, {0: 0}, [0])
        trace.output(1, 1)
        trace.flush()
        assert reader.read().num_rows == 1
    assert TraceReader(tmp_path).read().num_rows == 2
