"""Whatever is done to a cluster: no pod, node, attempt or dollar is lost, and addressed draws stay the same."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.cluster.nodes import NodeState
from simulator.cluster.pods import PodSpec
from simulator.units import PS_PER_S, to_ps

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

scales = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 6)), min_size=1, max_size=8, unique_by=lambda pair: pair[0]
)
specs = st.builds(
    PodSpec,
    gpus=st.integers(1, 2),
    pre_stop_s=st.sampled_from([0, 5, 45]),
    shutdown_timeout_s=st.sampled_from([0, 10, 100]),
    termination_grace_period_s=st.sampled_from([1, 30, 120]),
)
pools = st.fixed_dictionaries(
    {
        "notice": st.sampled_from([0, 1, 30, 120]),
        "replacement": st.booleans(),
        "mean_time_between": st.sampled_from([60, 300, 2000]),
        "warm_nodes": st.integers(0, 2),
        "max_nodes": st.integers(2, 5),
        "gpus_per_node": st.sampled_from([2, 4]),
        "initial": st.sampled_from(["ready", "cold"]),
        "prepulled": st.booleans(),
    }
)


def build(world, shape, spec, seed):
    reclaim = {key: shape[key] for key in ("notice", "replacement", "mean_time_between")}
    spot = {
        "name": "spot",
        "capacity": "spot",
        "usd_per_gpu_hour": 1.0,
        "provisioning": {"median": 50, "sigma": 0.3},
        "max_nodes": shape["max_nodes"],
        "warm_nodes": shape["warm_nodes"],
        "gpus_per_node": shape["gpus_per_node"],
        "reclaim": reclaim,
    }
    od = {"name": "od", "usd_per_gpu_hour": 3.0, "provisioning": 50, "gpus_per_node": 2, "max_nodes": 3}
    cold = {"process_start": {"median": 20, "sigma": 0.3}, "prepulled": shape["prepulled"]}
    return world(pools=[spot, od], spec=spec, cold=cold, initial=shape["initial"], seed=seed)


def drive(w, steps, until_s=3600, sends=True):
    """Run the steps; every 20 s send a request of 30 s to every endpoint. Returns how many were sent."""
    every_pod, every_node = {}, {}
    w.cluster.on_pod(lambda pod: every_pod.__setitem__(pod.name, pod))
    w.cluster.start(2)
    for t, replicas in steps:
        w.scale_at(t, replicas)
    sent = 0
    for t in range(0, until_s, 20):
        w.run(t + 0.5)
        for node in w.cluster.nodes():
            every_node[node.name] = node
        check(w)
        for name, replica in sorted(w.gateway.endpoints.items()) if sends else ():
            from simulator.attempts import Attempt
            from simulator.engines.protocol import EngineRequest

            replica.submit(Attempt(sent, 0, EngineRequest(sent, 1, 30, 30), w.clock.now, None))
            sent += 1
            del name
    w.run(until_s)
    return every_pod, every_node, sent


def check(w):
    counts = w.cluster.counts()
    assert counts.provisioned == counts.desired
    slots = {}
    for node in w.cluster.nodes():
        assert node.state is not NodeState.GONE
        assert len(node.pods) <= node.slots
        for pod in node.pods.values():
            assert pod.gone_ps is None
            assert pod.node is node or pod.reserved is node
            assert slots.setdefault(pod.name, node) is node
    for pod in w.cluster.pods():
        if pod.active and pod.node is None and pod.reserved is None:
            assert pod in w.cluster._scheduler.unschedulable
        elif pod.phase == "Running" and pod.node.gone_ps is None:
            assert slots[pod.name] is pod.node


@SETTINGS
@given(steps=scales, spec=specs, shape=pools, seed=st.integers(0, 10**6))
def test_nothing_is_lost(world, steps, spec, shape, seed):
    w = build(world, shape, spec, seed)
    every_pod, _, sent = drive(w, sorted(steps))
    # Every pod that was ever created is listed or gone, and every attempt ended once or is in flight.
    listed = {pod.name for pod in w.cluster.pods()}
    assert len(every_pod) == w.cluster.deployment.created
    assert {name for name, pod in every_pod.items() if pod.gone_ps is None} == listed
    in_flight = sum(replica.in_flight for replica in w.cluster.serving())
    ended = [attempt for _, attempt, _, _ in w.ended]
    assert len(ended) == len(set(ended))
    assert len(ended) + in_flight == sent
    for pod in every_pod.values():
        assert pod.replica is None or pod.gone_ps is None or not pod.replica.alive
    # When all is scaled away, all pods go, and all nodes but the warm ones.
    w.scale(0)
    w.run(3600 + 200 + 60)
    assert w.cluster.pods() == ()
    spares = sum(node.spare for node in w.cluster.nodes())
    assert spares <= shape["warm_nodes"]
    assert len(w.cluster.nodes()) - spares == sum(node.cordoned for node in w.cluster.nodes())


@SETTINGS
@given(steps=scales, spec=specs, shape=pools, seed=st.integers(0, 10**6))
def test_cost_is_the_sum_over_node_intervals(world, steps, spec, shape, seed):
    w = build(world, shape, spec, seed)
    removed = []
    for pool in w.cluster.pools:
        inner = pool.remove

        def remove(node, inner=inner):
            removed.append(node)
            inner(node)

        pool.remove = remove
    drive(w, sorted(steps), until_s=2000, sends=False)
    now = w.clock.now
    nodes = removed + w.cluster.nodes()
    for pool in w.cluster.pools:
        own = [node for node in nodes if node.pool is pool]
        assert sorted(node.ordinal for node in own) == list(range(pool.created))
        gpu_ps = sum(
            ((now if node.gone_ps is None else node.gone_ps) - node.created_ps) * pool.config.gpus_per_node
            for node in own
        )
        assert sum(pool.meter.gpu_ps(now).values()) == gpu_ps
        assert pool.meter.serving_gpus == sum(node.use[0] for node in pool.nodes)
    statements = w.cluster.statements(now).values()
    assert w.cluster.micro_usd(now) == sum(statement.total for statement in statements)


@SETTINGS
@given(one=scales, other=scales, shape=pools, seed=st.integers(0, 10**6))
def test_same_ordinal_same_cold_start_whatever_happened(world, one, other, shape, seed):
    def starts(steps):
        w = build(world, shape, PodSpec(), seed)
        drive(w, sorted(steps), sends=False)
        return {(subject, reason): value for _, _, subject, reason, value in w.events if reason == "Started"}

    first, second = starts(one), starts(other)
    for key in first.keys() & second.keys():
        assert first[key] == second[key]


def test_same_input_same_events(world):
    def events():
        shape = {
            "notice": 30,
            "replacement": True,
            "mean_time_between": 300,
            "warm_nodes": 1,
            "max_nodes": 4,
            "gpus_per_node": 2,
            "initial": "ready",
            "prepulled": False,
        }
        w = build(world, shape, PodSpec(), 5)
        drive(w, [(100, 6), (900, 1), (1500, 4)])
        return w.events, w.gateway.log, w.ended

    first = events()
    assert first == events()
    assert len(first[0]) > 100


def test_reclaims_do_not_depend_on_what_runs_on_the_node(world, spot):
    def reclaims(replicas):
        w = world(pools=[spot()], initial="ready", seed=4)
        w.cluster.start(replicas)
        w.run(3000)
        return {subject: t for t, subject, _ in w.told("SpotReclaimNotice") if t < 1000}

    few, many = reclaims(2), reclaims(4)
    assert few["spot-0"] == many["spot-0"]
    assert to_ps(few["spot-0"]) % PS_PER_S != 0
