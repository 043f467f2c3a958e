import math

import pytest

from simulator.cluster.cold_start import (
    Phase,
    image_ps,
    process_steps,
    propagation_ps,
    provisioning_ps,
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


def test_weights_are_bytes_to_read_unless_a_time_is_given():
    sizes = [phases(eager=True, weight_bytes=16 * 10**9, ordinal=n)[1] for n in range(400)]
    assert all(step.phase is Phase.WEIGHTS and step.duration_ps == 0 for step in sizes)
    logs = [math.log(step.read_bytes / 16e9) for step in sizes]
    assert sum(logs) / 400 == pytest.approx(0, abs=4 * 0.25 / 20)
    given = phases(eager=True, weight_bytes=16 * 10**9, cold={"weights": "33s"})[1]
    assert (given.duration_ps, given.read_bytes) == (33 * PS_PER_S, 0)
    with pytest.raises(ValueError, match="page_cache does not go with it"):
        ColdStart(weights="33s", page_cache=True)


def test_rates_by_source():
    for source, reader, node in (("disk", 1.5, 29.4), ("network-disk", 0.34, 1.1), ("object-store", 2, 5)):
        config = ColdStart(weights_from=source)
        assert (config.reader_bytes_per_s, config.node_bytes_per_s) == (
            round(reader * 1e9),
            round(node * 1e9),
        )
    assert ColdStart(weights_gb_per_s=40).node_bytes_per_s == 40 * 10**9
    assert ColdStart(weights_gb_per_s=4, weights_node_gb_per_s=2).node_bytes_per_s == 2 * 10**9


def test_snapshot_and_sleep_replace_phases():
    def names(**options):
        return [step.phase for step in phases(eager=False, weight_bytes=10**9, **options)]

    fresh = [Phase.PROCESS_START, Phase.WEIGHTS, Phase.COMPILE, Phase.GRAPH_CAPTURE]
    assert names(cold={"start": "snapshot"}) == [Phase.RESTORE]
    assert names(cold={"start": "sleep-1"}, sleeper=True) == [Phase.WAKE]
    assert names(cold={"start": "sleep-2"}, sleeper=True) == [Phase.WAKE, Phase.WEIGHTS]
    assert names(cold={"start": "sleep-1"}) == fresh
    assert names(cold={"start": "sleep-1"}, sleeper=True, attempt=1) == fresh


def test_layers_of_another_version_save_part_of_the_pull():
    config = ColdStart(image_pull=100, layer_reuse=0.75)
    assert image_ps(config, Draws(3), 0, on_node=False, other_version=True) == 25 * PS_PER_S
    assert image_ps(config, Draws(3), 0, on_node=False) == 100 * PS_PER_S


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
