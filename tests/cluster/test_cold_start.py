import math

import pytest

from simulator.cluster.cold_start import (
    Phase,
    image_ps,
    process_steps,
    propagation_ps,
    provisioning_ps,
    weights_spread,
)
from simulator.draws import Draws
from simulator.scenario.capacity import NodePool
from simulator.scenario.cold_start import ColdStart
from simulator.units import PS_PER_S, to_s


def phases(**options):
    config = ColdStart(**options.pop("cold", {}))
    return process_steps(config, Draws(3), options.pop("ordinal", 0), **options)


def test_phases_with_graphs():
    steps = phases(eager=False, weight_bytes=16 * 10**9)
    expected = [Phase.PROCESS_START, Phase.WEIGHTS, Phase.COMPILE, Phase.GRAPH_CAPTURE]
    assert [step.phase for step in steps] == expected


def test_eager_skips_compilation_and_graphs():
    steps = phases(eager=True, weight_bytes=16 * 10**9)
    assert [step.phase for step in steps] == [Phase.PROCESS_START, Phase.WEIGHTS, Phase.PROFILING]


def test_compile_cache_changes_the_distribution_and_not_the_draw():
    def compile_s(cache):
        cold = {"compile": {"median": 40, "sigma": 0.3}, "compile_cached": {"median": 10, "sigma": 0.3}}
        steps = phases(eager=False, weight_bytes=0, cold={**cold, "compile_cache": cache})
        return to_s(steps[2].duration_ps)

    assert compile_s("cold") == pytest.approx(4 * compile_s("warm"))


def test_weights_take_bytes_over_rate():
    spread = weights_spread(ColdStart(weights_gb_per_s=2.0), 16 * 10**9)
    assert spread.median == 8.0
    assert weights_spread(ColdStart(weights="33s"), 16 * 10**9).fixed == 33.0
    assert weights_spread(ColdStart(), 0).quantile_s(0.5) == 0.0


def test_the_address_is_phase_ordinal_and_attempt():
    config, draws = ColdStart(process_start={"median": 20, "sigma": 0.3}), Draws(3)
    again = process_steps(config, draws, 4, eager=False, weight_bytes=10**9)
    assert process_steps(config, Draws(3), 4, eager=False, weight_bytes=10**9) == again
    assert process_steps(config, draws, 5, eager=False, weight_bytes=10**9) != again
    assert process_steps(config, draws, 4, eager=False, weight_bytes=10**9, attempt=1) != again
    u = draws.uniform("cold-start/process_start", 4, 0)
    assert to_s(again[0].duration_ps) == pytest.approx(config.process_start.quantile_s(u))


def test_provisioning_is_drawn_by_the_pod_that_asks():
    pool = NodePool(name="a", provisioning={"median": 50, "sigma": 0.3})
    other = NodePool(name="b", provisioning={"median": 100, "sigma": 0.3})
    draws = Draws(3)
    first = provisioning_ps(pool, draws, 2, 0)
    assert provisioning_ps(other, draws, 2, 0) == pytest.approx(2 * first, rel=1e-12)
    assert provisioning_ps(pool, draws, 2, 1) != first


def test_image_and_propagation():
    config = ColdStart(image_pull=100, image_cached=1, endpoint_propagation={"min": 1, "max": 3})
    draws = Draws(3)
    assert image_ps(config, draws, 0, on_node=False) == 100 * PS_PER_S
    assert image_ps(config, draws, 0, on_node=True) == PS_PER_S
    coming = propagation_ps(config, draws, 0, leaving=False)
    assert coming != propagation_ps(config, draws, 0, leaving=True)
    assert PS_PER_S <= coming <= 3 * PS_PER_S


def test_lognormal_median_over_many_pods():
    config = ColdStart(process_start={"median": 20, "sigma": 0.3})
    draws = Draws(9)
    times = [
        process_steps(config, draws, n, eager=True, weight_bytes=0)[0].duration_ps / PS_PER_S
        for n in range(400)
    ]
    logs = [math.log(time) for time in times]
    assert sum(logs) / 400 == pytest.approx(math.log(20), abs=4 * 0.3 / 20)
