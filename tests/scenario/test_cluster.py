import pytest
from pydantic import ValidationError

from simulator.scenario.capacity import NodePool, Reclaim
from simulator.scenario.cluster import Cluster


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


def terms(cloud=None, **reclaim):
    pool = NodePool(name="a", capacity="spot", cloud=cloud, reclaim=reclaim)
    return pool.notice_s, pool.detection_s, pool.pod_grace_s


def test_detection_depends_on_the_notice():
    assert terms(notice=30)[1] == 2.0
    assert terms(notice=0)[1] == 40.0
    assert terms(notice=0, detection=5)[1] == 5.0
    assert terms(notice=30, detection=0)[1] == 0.0


def test_notice_and_grace_are_the_clouds():
    assert terms() == (30.0, 2.0, None)
    assert terms("aws") == (120.0, 2.0, None)
    assert terms("gcp") == (30.0, 2.0, 15.0)
    assert terms("azure") == (30.0, 2.0, None)
    assert terms("gcp", notice=60, pod_grace=25) == (60.0, 2.0, 25.0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pools": [{"name": "a", "zone": "z"}]}, "pool a is in zone z, which is not one of zones"),
        ({"pools": [{"name": "a", "share": 0}]}, "at least one pool needs a share"),
        ({"zones": [{"name": "z"}, {"name": "z"}]}, "zone names must be unique"),
        (
            {
                "pools": [
                    {"name": "a", "zone": "z", "capacity": "spot", "reclaim": {"mean_time_between": "1h"}}
                ],
                "zones": [{"name": "z", "availability": "f.csv"}],
            },
            "mean_time_between does not go with a zone whose availability is replayed",
        ),
        (
            {"zones": [{"name": "z", "availability": "f.csv", "mass_events": {}}]},
            "mass_events do not go with availability",
        ),
        (
            {"zones": [{"name": "z", "stock_outs": [{"intervals": [{"start": 9, "end": 5}]}]}]},
            "must be after start",
        ),
        (
            {"pools": [{"name": "a", "price_changes": [{"at": 5, "usd_per_gpu_hour": 1}] * 2}]},
            "price_changes must be in rising order",
        ),
    ],
)
def test_markets_that_do_not_fit(given, told):
    with pytest.raises(ValidationError, match=told):
        Cluster(**given)


def test_median_of_lifetimes_lies_below_their_mean():
    with pytest.raises(ValidationError, match="must be below mean_time_between"):
        Reclaim(mean_time_between=100, median_time_between=100)


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
