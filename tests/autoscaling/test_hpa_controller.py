"""Settings (section 1) and what the version line changes (sections 4, 10, 13)."""

import pytest

from simulator.autoscaling.hpa_controller import HpaController, HpaFlags, HpaGates, parse_version
from simulator.units import PS_PER_S


def test_section1_flags_have_the_real_defaults():
    flags = HpaFlags()
    assert flags.sync_period_ps == 15 * PS_PER_S
    assert flags.tolerance == 0.1
    assert flags.downscale_stabilization_ps == 300 * PS_PER_S
    assert flags.cpu_initialization_period_ps == 300 * PS_PER_S
    assert flags.initial_readiness_delay_ps == 30 * PS_PER_S
    assert flags.concurrent_syncs == 5


def test_section1_first_pass_is_at_once_in_1_37_and_after_a_sync_period_before():
    assert HpaController("1.37").first_pass_delay_ps == 0
    assert HpaController("1.36").first_pass_delay_ps == 15 * PS_PER_S
    slow = HpaController("1.36", HpaFlags(sync_period_ps=40 * PS_PER_S))
    assert slow.first_pass_delay_ps == 40 * PS_PER_S


@pytest.mark.parametrize(
    ("version", "interval", "configurable", "scale_to_zero", "ambiguous", "retries", "pod_level"),
    [
        ("1.23", False, False, False, False, False, False),
        ("1.26", False, False, False, False, False, False),
        ("1.27", False, False, False, True, False, False),
        ("1.32", False, False, False, True, False, False),
        ("1.33", True, False, False, True, False, False),
        ("1.34", True, False, False, True, True, True),
        ("1.35", True, True, False, True, True, True),
        ("1.36", True, True, False, True, True, True),
        ("v1.37.1", True, True, True, True, True, True),
    ],
)
def test_section13_version_table(
    version, interval, configurable, scale_to_zero, ambiguous, retries, pod_level
):
    controller = HpaController(version)
    assert controller.interval_tolerance is interval
    assert controller.configurable_tolerance is configurable
    assert controller.scale_to_zero is scale_to_zero
    assert controller.rejects_ambiguous_selectors is ambiguous
    assert controller.retries_write_conflicts is retries
    assert controller.pod_level_resources is pod_level


def test_section4_gate_configurable_tolerance_can_be_turned_on_in_1_33_and_not_earlier():
    on = HpaGates(configurable_tolerance=True)
    assert HpaController("1.33", gates=on).configurable_tolerance
    assert not HpaController("1.32", gates=on).configurable_tolerance
    assert not HpaController("1.37", gates=HpaGates(configurable_tolerance=False)).configurable_tolerance


@pytest.mark.parametrize("version", ["1.20", "1.22", "1.38", "2.0", "new", "1"])
def test_section13_versions_outside_the_known_lines_are_refused(version):
    with pytest.raises(ValueError, match=r"Kubernetes"):
        parse_version(version)
    with pytest.raises(ValueError, match=r"Kubernetes"):
        HpaController(version)


def test_section13_finished_pods_by_version():
    assert HpaController().finished_phases == ("Failed", "Succeeded")
    assert HpaController("1.36").finished_phases == ("Failed",)
    assert HpaController("1.36").requires_container_sample
    assert not HpaController().requires_container_sample
