"""Measured start-up phases in place of defaults."""

import pytest

from simulator.cluster.measured_start import with_measured_phases
from simulator.scenario.cold_start import ColdStart
from simulator.step_time.profile import StartUp


def start(cache="warm", **phases):
    return StartUp(compile_cache=cache, phases_s=phases, ready_s=sum(phases.values()))


STARTS = [
    start("cold", process=10, weights=4, compile=50, graph_capture=9, kv_cache=1),
    start("warm", process=12, weights=6, compile=12, graph_capture=11, kv_cache=1),
    start("warm", process=14, weights=5, compile=14, graph_capture=13, kv_cache=1),
]


def test_medians_replace_defaults():
    config, note = with_measured_phases(ColdStart(), STARTS, eager=False)
    assert config.process_start.median == 12
    assert config.weights is not None
    assert config.weights.median == 5
    assert (config.compile.median, config.compile_cached.median) == (50, 13)
    assert config.graph_capture.median == 12
    assert note is not None
    assert "process_start 12.0 s" in note


def test_what_the_scenario_says_stays():
    given = ColdStart(process_start="3s", weights_gb_per_s=2)
    config, _ = with_measured_phases(given, STARTS, eager=False)
    assert config.process_start.fixed == 3
    assert config.weights is None


def test_eager_engines_have_no_graphs():
    config, _ = with_measured_phases(ColdStart(), [start("none", process=15, kv_cache=0.5)], eager=True)
    assert config.profiling_eager.median == 0.5
    assert config.graph_capture == ColdStart().graph_capture


@pytest.mark.parametrize("starts", [None, []])
def test_a_profile_without_starts(starts):
    assert with_measured_phases(ColdStart(), starts, eager=False) == (ColdStart(), None)
