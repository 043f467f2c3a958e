"""Whole runs under an HPA: what only shows with pods, metrics and clock together."""

import pytest

from tests import small

ATTEMPTS = "inference_objective_running_requests"
QUEUED = "inference_extension_flow_control_queue_size"


def external(name, target):
    return {
        "type": "External",
        "external": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": target}},
    }


def sizes(results):
    events = results.tables.events
    return events.value[events.kind == "scale"].tolist()


def bursts(*starts, duration="20m", **change):
    """A minute of traffic at each start."""
    workload = small.SCENARIO["workload"][0]
    return {
        "duration": duration,
        "cluster": {"cold_start": small.FAST_START},
        "workload": [
            {**workload, "name": f"burst-{number}", "start": start, "duration": "1m"}
            for number, start in enumerate(starts)
        ],
        **change,
    }


SLEEPY = {
    "spec": {
        "minReplicas": 0,
        "metrics": [external(ATTEMPTS, "10"), external(QUEUED, "10")],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    }
}


def test_section10_scales_to_zero_and_wakes_for_queued_requests(tmp_path):
    change = bursts("0s", "10m", gateway={"max_queue": 1000, "queue_timeout": "5m"})
    results = small.results(tmp_path, change, hpa=SLEEPY)
    found = sizes(results)
    assert found[:2] == [1, 0]
    assert 0 not in found[2:-1]
    assert found[-1] == 0
    reasons = [reason for reason in results.tables.events.reason if "ScaledToZero" in reason]
    assert reasons == ["ScaledToZero", "NotScaledToZero", "ScaledToZero"]
    requests = results.tables.requests
    assert (requests.outcome == "completed").all()
    # Those that wait for the pod to start have a first token late.
    assert requests.ttft_s[requests.workload == "burst-1"].max() > 10


def test_section10_with_the_gate_off_its_own_zero_stays(tmp_path):
    change = bursts("0s", "10m", clients={"timeout": "30s"})
    policy = {"kind": "hpa", "manifest": "hpa.yaml", "scale_to_zero": False}
    change["fleet"] = {"autoscaling": {"policies": [policy]}}
    (tmp_path / "hpa.yaml").write_text(small.hpa_text(SLEEPY))
    results = small.results(tmp_path, change)
    assert sizes(results) == [1, 0]
    assert "ScalingDisabled" in results.tables.events.reason.tolist()


def test_section10_a_target_that_starts_at_zero_is_paused(tmp_path):
    change = bursts("0s", duration="2m", clients={"timeout": "10s"}, fleet={"replicas": 0})
    results = small.results(tmp_path, change, hpa=SLEEPY)
    assert sizes(results) == []
    assert "ScalingDisabled" in results.tables.events.reason.tolist()


def test_section1_the_metric_is_itself_old(tmp_path):
    """A longer scrape interval and adapter delay alone make the same autoscaler answer later."""

    def first_rescale_s(name, scrape):
        folder = tmp_path / name
        folder.mkdir()
        change = bursts("1m", duration="5m")
        change["fleet"] = {"autoscaling": {"scrape": scrape}}
        change["workload"][0]["arrivals"] = {"kind": "poisson", "rate": "40/s"}
        results = small.results(folder, change, hpa={})
        events = results.tables.events
        return events.t_s[events.reason == "SuccessfulRescale"].min()

    fresh = first_rescale_s("fresh", {"interval": "2s", "adapter_delay": 0})
    stale = first_rescale_s("stale", {"interval": "2s", "adapter_delay": "45s"})
    assert fresh > 60
    assert stale >= fresh + 45


def test_two_autoscalers_block_each_other(tmp_path):
    (tmp_path / "hpa.yaml").write_text(small.hpa_text())
    policies = [{"kind": "hpa", "manifest": "hpa.yaml", "name": name} for name in ("a", "b")]
    change = bursts("0s", duration="2m", fleet={"replicas": 2, "autoscaling": {"policies": policies}})
    results = small.results(tmp_path, change)
    assert sizes(results) == [2]
    events = results.tables.events
    assert events.reason.tolist().count("AmbiguousSelector") >= 2


def test_an_unknown_release_is_told_by_key(tmp_path):
    (tmp_path / "hpa.yaml").write_text(small.hpa_text())
    policy = {"kind": "hpa", "manifest": "hpa.yaml", "version": "1.99"}
    change = {"fleet": {"autoscaling": {"policies": [policy]}}}
    with pytest.raises(Exception, match=r"policies\.0\.version: Kubernetes 1\.99 is not covered"):
        small.results(tmp_path, change)


def test_a_selector_that_no_series_has_finds_nothing(tmp_path):
    def reasons(name, model):
        folder = tmp_path / name
        folder.mkdir()
        metric = external("vllm:num_requests_running", "10")
        metric["external"]["metric"]["selector"] = {"matchLabels": {"model_name": model, "team": "any"}}
        results = small.results(folder, bursts("0s", duration="2m"), hpa={"spec": {"metrics": [metric]}})
        return results.tables.events.reason.tolist()

    assert "ValidMetricFound" in reasons("right", "meta-llama/Llama-3.1-8B")
    wrong = reasons("wrong", "llama")
    assert "FailedGetExternalMetric" in wrong
    assert "ValidMetricFound" not in wrong


def test_histograms_change_nothing_else(tmp_path):
    """Two autoscalers that never act: one reads a histogram, one does not."""

    def requests(name, metric):
        folder = tmp_path / name
        folder.mkdir()
        spec = {"metrics": [external(metric, "1000000")], "minReplicas": 2}
        return small.results(folder, bursts("0s", duration="2m"), hpa={"spec": spec}).tables.requests

    plain = requests("plain", "vllm:num_requests_running")
    observed = requests("observed", "vllm:time_to_first_token_seconds_count")
    assert plain.equals(observed)
