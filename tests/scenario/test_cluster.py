import pytest
from pydantic import ValidationError

from simulator.scenario.cluster import Cluster, NodePool, Reclaim


def test_defaults():
    cluster = Cluster()
    assert [pool.name for pool in cluster.pools] == ["on-demand"]
    assert cluster.initial == "ready"


def test_quantities_are_read_as_written():
    pool = NodePool.model_validate(
        {
            "name": "spot",
            "capacity": "spot",
            "provisioning": {"median": "3m", "sigma": 0.4},
            "reclaim": {"mean_time_between": "2h", "notice": "30s"},
        }
    )
    assert pool.provisioning.median == 180.0
    assert pool.reclaim.mean_time_between == 7200.0


def test_detection_depends_on_the_notice():
    assert Reclaim(notice=30).detection_s == 2.0
    assert Reclaim(notice=0).detection_s == 40.0
    assert Reclaim(notice=0, detection=5).detection_s == 5.0
    assert Reclaim(notice=30, detection=0).detection_s == 0.0


def test_pool_names_are_unique():
    with pytest.raises(ValidationError, match="pool names must be unique, got a, a"):
        Cluster(pools=[{"name": "a"}, {"name": "a"}])


def test_reclaim_is_for_spot():
    with pytest.raises(ValidationError, match="reclaim is for spot pools"):
        NodePool(name="a", reclaim={"notice": 30})


def test_warm_nodes_fit_the_pool():
    with pytest.raises(ValidationError, match=r"warm_nodes \(3\) is above max_nodes \(2\)"):
        NodePool(name="a", max_nodes=2, warm_nodes=3)


def test_unknown_keys_are_refused():
    with pytest.raises(ValidationError, match="min_nodes"):
        NodePool.model_validate({"name": "a", "min_nodes": 2})


def test_a_cluster_has_a_pool():
    with pytest.raises(ValidationError, match="at least 1"):
        Cluster(pools=[])
