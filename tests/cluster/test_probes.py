from simulator.cluster.probes import Probe, given_up_ps, ready_ps
from simulator.units import PS_PER_S


def s(seconds):
    return round(seconds * PS_PER_S)


def test_ready_at_the_first_probe_after_the_server_listens():
    assert ready_ps(Probe(), None, s(100), s(161)) == s(170)


def test_a_server_that_listens_at_the_instant_of_a_probe_passes_it():
    assert ready_ps(Probe(), None, s(100), s(160)) == s(160)


def test_initial_delay_shifts_the_probes():
    assert ready_ps(Probe(initial_delay_s=7), None, s(0), s(20)) == s(27)
    assert ready_ps(Probe(initial_delay_s=90), None, s(0), s(20)) == s(90)


def test_success_threshold_asks_for_more_probes():
    assert ready_ps(Probe(success_threshold=3), None, s(0), s(61)) == s(90)


def test_without_a_readiness_probe_a_running_container_is_ready():
    assert ready_ps(None, None, s(5), s(65)) == s(5)


def test_startup_probe_triggers_the_readiness_probe_at_once():
    startup = Probe(period_s=7, failure_threshold=100)
    assert ready_ps(Probe(period_s=10), startup, s(0), s(60)) == s(63)


def test_readiness_initial_delay_holds_after_the_startup_probe():
    startup = Probe(period_s=7, failure_threshold=100)
    assert ready_ps(Probe(initial_delay_s=120), startup, s(0), s(60)) == s(120)


def test_startup_probe_alone_makes_ready():
    assert ready_ps(None, Probe(period_s=7, failure_threshold=100), s(0), s(60)) == s(63)


def test_startup_probe_gives_up_at_its_last_failure():
    # Probes at 0, 10 and 20 s fail; the third failure kills.
    assert given_up_ps(Probe(failure_threshold=3), None, s(0)) == s(20)


def test_liveness_probe_gives_up_a_server_that_still_loads():
    liveness = Probe(initial_delay_s=30, period_s=10, failure_threshold=3)
    assert given_up_ps(None, liveness, s(0)) == s(50)
    assert given_up_ps(None, None, s(0)) is None


def test_startup_probe_holds_the_liveness_probe_back():
    assert given_up_ps(Probe(failure_threshold=60), Probe(failure_threshold=1), s(0)) == s(590)
