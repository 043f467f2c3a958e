from simulator.cluster.probes import Probe, start_up
from simulator.units import PS_PER_S


def s(seconds):
    return round(seconds * PS_PER_S)


def test_ready_at_the_first_probe_after_the_server_listens():
    assert start_up(Probe(), None, s(100), s(161)).ready_ps == s(170)


def test_a_server_that_listens_at_the_instant_of_a_probe_passes_it():
    assert start_up(Probe(), None, s(100), s(160)).ready_ps == s(160)


def test_initial_delay_shifts_the_probes():
    assert start_up(Probe(initial_delay_s=7), None, s(0), s(20)).ready_ps == s(27)
    assert start_up(Probe(initial_delay_s=90), None, s(0), s(20)).ready_ps == s(90)


def test_success_threshold_asks_for_more_probes():
    assert start_up(Probe(success_threshold=3), None, s(0), s(61)).ready_ps == s(90)


def test_without_a_readiness_probe_a_running_container_is_ready():
    assert start_up(None, None, s(5), s(65)).ready_ps == s(5)


def test_startup_probe_triggers_the_readiness_probe_at_once():
    startup = Probe(period_s=7, failure_threshold=100)
    assert start_up(Probe(period_s=10), startup, s(0), s(60)).ready_ps == s(63)


def test_readiness_initial_delay_holds_after_the_startup_probe():
    startup = Probe(period_s=7, failure_threshold=100)
    assert start_up(Probe(initial_delay_s=120), startup, s(0), s(60)).ready_ps == s(120)


def test_startup_probe_alone_makes_ready():
    assert start_up(None, Probe(period_s=7, failure_threshold=100), s(0), s(60)).ready_ps == s(63)


def test_startup_probe_gives_up_at_its_last_failure():
    # Probes at 0, 10 and 20 s fail; the third failure kills.
    fate = start_up(Probe(), Probe(failure_threshold=3), s(0), s(21))
    assert fate.ready_ps is None
    assert fate.killed_ps == s(20)
    assert start_up(Probe(), Probe(failure_threshold=3), s(0), s(20)).ready_ps == s(20)


def test_liveness_probe_kills_a_server_that_still_loads():
    liveness = Probe(initial_delay_s=30, period_s=10, failure_threshold=3)
    assert start_up(Probe(), None, s(0), s(51), liveness).killed_ps == s(50)
    assert start_up(Probe(), None, s(0), s(50), liveness).ready_ps == s(50)


def test_startup_probe_holds_the_liveness_probe_back():
    startup = Probe(failure_threshold=60)
    assert start_up(Probe(), startup, s(0), s(51), Probe(failure_threshold=1)).ready_ps == s(60)
