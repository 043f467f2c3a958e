"""When loops act: each system's own rhythm, on a stub of the cluster and of its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from simulator.autoscaling.autoscaler import Point, Services
from simulator.autoscaling.exporters import GATEWAY, GATEWAY_QUEUE, GATEWAY_REQUESTS, GATEWAY_RUNNING
from simulator.autoscaling.floors import Floors
from simulator.autoscaling.ray_serve import RayServeSpec
from simulator.autoscaling.request_loops import RayServeLoop
from simulator.autoscaling.sagemaker import TargetTracking
from simulator.autoscaling.sagemaker_loop import SageMakerLoop
from simulator.clock import Clock
from simulator.draws import Draws
from simulator.scenario.application_auto_scaling import ScalableTarget, SourcedPolicy
from simulator.scenario.autoscaling_kinds import SageMakerPolicy
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

    def latest(self, metric: str, now: int) -> dict[str, Point]:
        return {GATEWAY: Point(self._series[metric](to_s(now)), now, 0)}

    def avg_over_time(self, metric: str, window_s: float, now: int) -> dict[str, float]:
        return {GATEWAY: self._series[metric](to_s(now))}


def services(series: Mapping[str, Callable[[float], float]]) -> Services:
    reader: Any = Reader(series)
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
