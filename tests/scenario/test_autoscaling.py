"""Autoscaling policies and scrapes as a scenario gives them."""

import pytest
from pydantic import ValidationError

from simulator.scenario.autoscaling import Autoscaling, Scrape


def test_no_policies_by_default():
    assert Autoscaling().policies == []
    assert Autoscaling().scrape.interval == 15.0


def test_policies_are_told_apart_by_kind():
    given = Autoscaling(
        policies=[
            {"kind": "hpa", "manifest": "hpa.yaml", "sync_period": "30s"},
            {"kind": "cron-floor", "schedule": [{"start": "8h", "end": "18h", "replicas": 4}]},
        ]
    )
    hpa, cron = given.policies
    assert (hpa.sync_period, hpa.version, hpa.tolerance) == (30.0, "1.37", 0.1)
    assert cron.schedule[0].start == 8 * 3600
    with pytest.raises(ValidationError, match="hpaa"):
        Autoscaling(policies=[{"kind": "hpaa"}])


def test_names_are_unique():
    entry = {"kind": "hpa", "manifest": "hpa.yaml", "name": "a"}
    with pytest.raises(ValidationError, match="must be unique, got a, a"):
        Autoscaling(policies=[entry, entry])


def test_default_metric_names():
    assert Scrape().metrics["gpu_utilization"] == "DCGM_FI_DEV_GPU_UTIL"
    assert Scrape().metrics["request_queue_depth"] == "vllm:num_requests_waiting"


def test_metric_names_are_added_to_the_default_ones():
    scrape = Scrape(metrics={"running": "vllm:num_requests_running", "gpu_utilization": "other"})
    assert scrape.metrics == {
        "gpu_utilization": "other",
        "request_queue_depth": "vllm:num_requests_waiting",
        "running": "vllm:num_requests_running",
    }
