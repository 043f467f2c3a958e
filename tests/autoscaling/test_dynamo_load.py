"""The planner's load-based scaling, threshold by threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.autoscaling.decision import Decision
from simulator.autoscaling.dynamo_load import LoadSnapshot, LoadState, decide
from simulator.autoscaling.dynamo_plan import DynamoSpec, Inventory, Target

SPEC = DynamoSpec()


def one(loads: tuple[float, ...], spec: DynamoSpec = SPEC, inventory: Inventory | None = None) -> Decision:
    snapshot = LoadSnapshot(spec, loads, inventory or Inventory(len(loads)))
    return decide(LoadState(), snapshot, 0)[1]


@pytest.mark.parametrize(
    ("target", "loads", "size"),
    [
        ("throughput", (0.2, 1.01), 3),  # any above 100 %
        ("throughput", (0.9, 1.0), None),  # exactly is not above
        ("throughput", (0.4, 0.1), 1),  # all below 60 %, and 0.4 × 2 < 1
        ("throughput", (0.59, 0.1), None),  # 0.59 × 2 would scale up again
        ("throughput", (0.59, 0.1, 0.1), 2),  # 0.59 × 3 / 2 = 0.885
        ("throughput", (0.6, 0.1, 0.1), None),
        ("latency", (0.41,), 2),
        ("latency", (0.09, 0.09), 1),
        ("latency", (0.1, 0.0), None),
        ("load", (0.5, 0.7), 3),  # its thresholds count themselves
        ("load", (0.2, 0.2), 1),
        ("load", (0.21, 0.1), None),
    ],
)
def test_thresholds_by_target(target: Target, loads: tuple[float, ...], size: int | None) -> None:
    spec = replace(SPEC, target=target, scale_up_kv=0.7, scale_down_kv=0.2)
    assert one(loads, spec).replicas == size


def test_the_last_replica_stays() -> None:
    assert one((0.0,)).replicas is None
    assert one((0.0, 0.0), replace(SPEC, min_endpoint=2)).replicas is None


def test_the_gpu_budget_holds() -> None:
    assert one((2.0, 2.0), replace(SPEC, gpus_per_engine=4)).replicas is None


def test_every_ready_engine_must_report() -> None:
    assert one((2.0,), inventory=Inventory(2)).reason == "WorkerCountMismatch"
    assert one((), inventory=Inventory(2)).reason == "NoData"


def test_nothing_grows_while_replicas_start_or_end() -> None:
    assert one((2.0, 2.0), inventory=Inventory(2, pending=1)).replicas is None
    assert one((0.0, 0.0), inventory=Inventory(2, ending=True)).reason == "ScalingInProgress"


def test_startup_is_given_up_when_it_is_not_needed() -> None:
    spec, inventory = SPEC, Inventory(2, pending=1)
    state, first = decide(LoadState(), LoadSnapshot(spec, (0.55, 0.1), inventory), 0)
    assert first.replicas is None
    # One fewer would scale up again, so the two that serve stay and the third is dropped.
    _, second = decide(state, LoadSnapshot(spec, (0.55, 0.1), inventory), spec.load_interval_ps)
    assert second.replicas == 2
