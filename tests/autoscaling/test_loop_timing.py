"""When loops act: each system's own rhythm, on a stub of the cluster and of its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from simulator.autoscaling.autoscaler import Point, Services
from simulator.autoscaling.exporters import GATEWAY, GATEWAY_QUEUE, GATEWAY_REQUESTS, GATEWAY_RUNNING
from simulator.autoscaling.floors import Floors
from simulator.autoscaling.hpa_types import ExternalValues, MetricError
from simulator.autoscaling.keda_loop import KedaLoop
from simulator.autoscaling.kpa import KpaSpec
from simulator.autoscaling.ray_serve import RayServeSpec
from simulator.autoscaling.request_loops import KpaLoop, RayServeLoop
from simulator.autoscaling.sagemaker import TargetTracking
from simulator.autoscaling.sagemaker_loop import SageMakerLoop
from simulator.clock import Clock
from simulator.draws import Draws
from simulator.scenario.application_auto_scaling import ScalableTarget, SourcedPolicy
from simulator.scenario.autoscaling_kinds import KedaPolicy, SageMakerPolicy
from simulator.scenario.manifests.keda import load_scaled_object
from simulator.scenario.manifests.knative import KnativeAutoscaling
from simulator.scenario.ray_serve_config import RayServeDeployment
from simulator.units import to_ps, to_s


class Target:
    def __init__(self) -> None:
        self.replicas = 2
        self.writes: list[tuple[float, int]] = []

    def counts(self) -> Any:
        return SimpleNamespace(desired=self.replicas, provisioned=self.replicas, ready=2)

    def pods(self) -> tuple[()]:
        return ()

    def set_replicas(self, replicas: int, now: int, by: str) -> None:
        self.replicas = replicas
        self.writes.append((to_s(now), replicas))


class Reader:
    """The gateway's series as functions of time in seconds."""

    def __init__(self, series: Mapping[str, Callable[[float], float]]) -> None:
        self._series = series

    def keep(self, window_s: float) -> None:
        pass

    def exported(self, metric: str) -> str:
        return metric

    def labels(self, target: str) -> dict[str, str]:
        return {}

    def latest(self, metric: str, now: int) -> dict[str, Point]:
        return {GATEWAY: Point(self._series[metric](to_s(now)), now, 0)} if metric in self._series else {}

    def avg_over_time(self, metric: str, window_s: float, now: int) -> dict[str, float]:
        return {GATEWAY: self._series[metric](to_s(now))}


def services(series: Mapping[str, Callable[[float], float]], reader: Any = None) -> Services:
    reader = reader or Reader(series)
    sink: Any = SimpleNamespace(event=lambda *_: None)
    return Services(Clock(), Target(), Floors(), reader, lambda *_: reader, Draws(1), sink)


def sagemaker(load: Callable[[float], float]) -> Target:
    with_ = services({GATEWAY_REQUESTS: load})
    target = ScalableTarget(
        "endpoint/x/variant/y",
        1,
        10,
        (SourcedPolicy(TargetTracking("t", 100.0), "invocations-per-instance", 60),),
    )
    policy = SageMakerPolicy(kind="sagemaker", target="t.json", policies=["p.json"])
    SageMakerLoop(with_, policy, target).start()
    with_.clock.run(until=to_ps(1500))
    assert isinstance(with_.target, Target)
    return with_.target


def test_sagemaker_scales_out_three_periods_and_a_delivery_after_the_load_rose() -> None:
    # 2/s from 120 s on: 60 a minute and instance before, 120 after. Periods end at 180, 240 and 300; the last value
    # arrives at 360.
    found = sagemaker(lambda t: 2.0 * t if t < 120 else 240.0 + 4.0 * (t - 120)).writes
    assert found[0] == (360.0, 3)  # ceil(2 × 120 / 100)


def test_sagemaker_does_nothing_without_traffic() -> None:
    assert sagemaker(lambda t: 0.0).writes == []


def test_ray_serve_acts_after_every_tick_of_its_delay() -> None:
    with_ = services({GATEWAY_RUNNING: lambda t: 12.0 if t >= 60 else 4.0, GATEWAY_QUEUE: lambda t: 0.0})
    deployment = RayServeDeployment("d", RayServeSpec(min_replicas=1, max_replicas=8), 2)
    RayServeLoop(with_, "ray", deployment).start()
    with_.clock.run(until=to_ps(200))
    assert isinstance(with_.target, Target)
    # Seen with the push at 60 s; int(30 / 0.1) = 300 ticks are not enough, the 301st is.
    assert with_.target.writes == [(pytest.approx(90.1), 6)]


def test_knative_ticks_every_two_seconds() -> None:
    with_ = services({GATEWAY_RUNNING: lambda t: 40.0, GATEWAY_QUEUE: lambda t: 0.0})
    revision = KnativeAutoscaling("llm", KpaSpec(target=10.0, total=10.0), "concurrency", 1)
    KpaLoop(with_, "llm", revision).start()
    with_.clock.run(until=to_ps(10))
    assert isinstance(with_.target, Target)
    assert with_.target.writes == [(2.0, 4)]


def keda(path: Path, reader: Any, **trigger: Any) -> KedaLoop:
    query = "vllm:num_requests_waiting"
    metadata = {"query": query, "threshold": "5", "serverAddress": "http://p", **trigger.pop("metadata", {})}
    manifest = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "scaled"},
        "spec": {
            "scaleTargetRef": {"name": "vllm"},
            "triggers": [{"type": "prometheus", "metadata": metadata, **trigger}],
        },
    }
    file = path / "keda.yaml"
    file.write_text(yaml.safe_dump(manifest))
    policy = KedaPolicy(kind="keda", manifest=file.name)
    return KedaLoop(services({}, reader), policy, load_scaled_object(file), file)


def waiting(load: Callable[[float], float]) -> Any:
    return Reader({"vllm:num_requests_waiting": load})


def read(loop: KedaLoop, at_s: float) -> Any:
    """What the HPA is answered."""
    return loop._served(0, to_ps(at_s))


def test_keda_runs_the_query_when_the_hpa_asks(tmp_path: Path) -> None:
    loop = keda(tmp_path, waiting(lambda t: t))
    loop.poll()
    assert read(loop, 7.0) == ExternalValues((7_000,))


def test_keda_answers_with_the_last_poll_where_that_is_asked_for(tmp_path: Path) -> None:
    loop = keda(tmp_path, waiting(lambda t: 3.0 + t), useCachedMetrics=True)
    loop.poll()
    assert read(loop, 7.0) == ExternalValues((3_000,))


def test_keda_polls_once_an_interval_from_anywhere_within_one(tmp_path: Path) -> None:
    loop, polled = keda(tmp_path, waiting(lambda t: 0.0)), []
    clock = loop._services.clock
    loop.poll = lambda: polled.append(to_s(clock.now))  # type: ignore[method-assign]
    clock.process(loop._run())
    clock.run(until=to_ps(100))
    assert 0 <= polled[0] < 30
    assert [later - earlier for earlier, later in pairwise(polled)] == [pytest.approx(30.0)] * (
        len(polled) - 1
    )


def test_keda_fails_on_several_elements(tmp_path: Path) -> None:
    reader = waiting(lambda t: 1.0)
    reader.latest = lambda metric, now: {"vllm-0": Point(1.0, now, 0), "vllm-1": Point(2.0, now, 0)}
    assert isinstance(read(keda(tmp_path, reader), 1.0), MetricError)


def test_keda_takes_no_result_for_zero_unless_told(tmp_path: Path) -> None:
    empty = Reader({})
    assert read(keda(tmp_path, empty), 1.0) == ExternalValues((0,))
    strict = keda(tmp_path, empty, metadata={"ignoreNullValues": "false"})
    assert isinstance(read(strict, 1.0), MetricError)
