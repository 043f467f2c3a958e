"""The chain of arrivals, clients and gateway against what queueing theory says of it in steady state.

A replica that serves one request at a time behind a gateway that holds the others in order of arrival is a
single-server queue; c of them are M/G/c. Means over independent replications, each less its warm-up, must have
the true value in their 99.9 % t-interval, and that interval must be narrow enough to mean something.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from simulator.draws import Draws
from simulator.outcomes import Cause
from simulator.units import to_ps
from tests.stub_replica import Chain, Source, Spec

REQUESTS = 6000
WARM_UP = 1000
REPLICATIONS = 8


@cache
def waits_and_sojourns(servers, utilization, service, replications=REPLICATIONS, requests=REQUESTS):
    """Per replication: arrays of waiting times and of times in the system, service time 1 on average."""
    results = []
    for replication in range(replications):
        draws = Draws(11, replication)
        uniform = draws.uniforms("test/queueing", 0, requests)
        arrivals_s = np.cumsum(-np.log(uniform[:, 0])) / (utilization * servers)
        service_s = {
            "exponential": -np.log(uniform[:, 1]),
            "fixed": np.ones(requests),
            # Hyperexponential of mean 1: E[S²] = 2 (0.1 · 5.5² + 0.9 · 0.5²) = 6.5.
            "hyperexponential": -np.log(uniform[:, 1]) * np.where(uniform[:, 2] < 0.1, 5.5, 0.5),
        }[service].tolist()
        specs = [Spec(i, to_ps(t)) for i, t in enumerate(arrivals_s.tolist())]
        chain = Chain(
            Source(specs),
            clients={"timeout": None},
            gateway={"max_outstanding_per_replica": 1, "max_queue": 10**6, "queue_timeout": "100d"},
        )
        for i in range(servers):
            chain.replica(
                f"pod-{i}",
                lambda attempt, service_s=service_s: (
                    service_s[attempt.attempt_id // 32],
                    service_s[attempt.attempt_id // 32],
                    Cause.NONE,
                ),
            )
        rows = chain.run().requests
        assert len(rows) == requests
        order = np.argsort([row["request_id"] for row in rows])
        sojourn_s = np.array([row["e2e_s"] for row in rows])[order]
        results.append((sojourn_s - np.array(service_s), sojourn_s, arrivals_s))
    return results


def agrees(samples, truth, within):
    """The 99.9 % t-interval of the mean of independent samples covers the truth and is narrow."""
    mean, n = np.mean(samples), len(samples)
    half = stats.t.ppf(0.9995, n - 1) * np.std(samples, ddof=1) / math.sqrt(n)
    assert abs(mean - truth) <= half, f"{mean:.4f} ± {half:.4f}, expected {truth:.4f}"
    assert half <= within * truth, f"± {half:.4f} proves nothing about {truth:.4f}"


def erlang_c(servers, utilization):
    """Probability of waiting in M/M/c (A. K. Erlang, 1917)."""
    load = servers * utilization
    blocked = 1.0  # Erlang B by its recursion
    for c in range(1, servers + 1):
        blocked = load * blocked / (c + load * blocked)
    return blocked / (1 - utilization * (1 - blocked))


@pytest.mark.parametrize("utilization", [0.3, 0.6])
def test_mm1_mean_wait(utilization):
    waits = [w[WARM_UP:].mean() for w, _, _ in waits_and_sojourns(1, utilization, "exponential")]
    agrees(waits, utilization / (1 - utilization), within=0.2)


@pytest.mark.parametrize(("servers", "utilization"), [(2, 0.7), (5, 0.7)])
def test_mmc_probability_and_mean_of_waiting_are_erlangs(servers, utilization):
    runs = waits_and_sojourns(servers, utilization, "exponential")
    p_wait = erlang_c(servers, utilization)
    agrees([(w[WARM_UP:] > 1e-9).mean() for w, _, _ in runs], p_wait, within=0.15)
    agrees([w[WARM_UP:].mean() for w, _, _ in runs], p_wait / (servers * (1 - utilization)), within=0.3)


def test_erlang_c_of_one_server_is_its_utilisation():
    assert erlang_c(1, 0.6) == pytest.approx(0.6)
    assert erlang_c(2, 0.5) == pytest.approx(1 / 3)  # by hand


@pytest.mark.parametrize(("service", "second_moment"), [("fixed", 1.0), ("hyperexponential", 6.5)])
def test_mg1_mean_wait_is_pollaczek_khinchines(service, second_moment):
    utilization = 0.5
    waits = [w[WARM_UP:].mean() for w, _, _ in waits_and_sojourns(1, utilization, service)]
    agrees(waits, utilization * second_moment / (2 * (1 - utilization)), within=0.35)


def test_littles_law():
    # Number in the system seen by a clock of its own, against arrival rate × time in the system.
    draws = Draws(12)
    uniform = draws.uniforms("test/queueing", 0, 4000)
    arrivals_s = (np.cumsum(-np.log(uniform[:, 0])) / 1.4).tolist()
    service_s = (-np.log(uniform[:, 1])).tolist()
    chain = Chain(
        Source([Spec(i, to_ps(t)) for i, t in enumerate(arrivals_s)]),
        clients={"timeout": None},
        gateway={"max_outstanding_per_replica": 1, "max_queue": 10**6, "queue_timeout": "100d"},
    )
    for i in range(2):
        chain.replica(f"pod-{i}", lambda a: (service_s[a.attempt_id // 32],) * 2 + (Cause.NONE,))
    seen = []
    every_s = 0.1

    def look(_):
        in_system = chain.gateway.queue_length + sum(chain.gateway.outstanding().values())
        assert in_system == chain.client.in_flight
        seen.append(in_system)
        if not chain.client.idle:
            chain.clock.call_at(chain.clock.now + to_ps(every_s), look)

    chain.clock.call_at(0, look)
    rows = chain.run().requests
    # The run begins and ends empty, so both sides integrate the same area; only the sampling differs.
    area = sum(row["e2e_s"] for row in rows)
    assert sum(seen) * every_s == pytest.approx(area, rel=0.01)
