"""The HorizontalPodAutoscaler's manifest: loading, defaults and the limits of section 12."""

import textwrap

import pytest
import yaml

from simulator.autoscaling.hpa_spec import Behavior, MetricSpec, MetricTarget, ScalingPolicy, hpa_spec
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests import load_hpa
from simulator.scenario.manifests.kubernetes import LabelSelector, quantity_float, quantity_milli

REAL = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: llm-serving-hpa
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: vllm-deployment
  minReplicas: 2
  maxReplicas: 16
  metrics:
  - type: Pods
    pods:
      metric:
        name: gpu_utilization
      target:
        type: AverageValue
        averageValue: "85"
  - type: Pods
    pods:
      metric:
        name: request_queue_depth
      target:
        type: AverageValue
        averageValue: "10"
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 60
      policies:
      - type: Pods
        value: 2
        periodSeconds: 60
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
      - type: Pods
        value: 1
        periodSeconds: 120
"""


@pytest.fixture
def load(tmp_path):
    """Load a text, or the real manifest with changes made to its spec."""

    def run(text=None, **spec):
        if text is None:
            manifest = yaml.safe_load(REAL)
            for key, value in spec.items():
                manifest["spec"][key] = value
                if value is None:
                    del manifest["spec"][key]
            text = yaml.safe_dump(manifest)
        path = tmp_path / "hpa.yaml"
        path.write_text(textwrap.dedent(text))
        return load_hpa(path)

    return run


@pytest.fixture
def refused(load):
    """The key and reason with which a manifest is refused."""

    def run(text=None, **spec):
        with pytest.raises(ScenarioError) as caught:
            load(text, **spec)
        assert "hpa.yaml" in caught.value.file
        return caught.value.key, caught.value.reason

    return run


def metric(kind="Pods", source="pods", **target):
    body = {"target": {"type": "AverageValue", **target}}
    if source in ("resource", "containerResource"):
        body["name"] = "cpu"
    else:
        body["metric"] = {"name": "m"}
    return {"type": kind, source: body}


def test_real_manifest_loads_unchanged(load):
    spec = hpa_spec(load(REAL))
    assert (spec.min_replicas, spec.max_replicas) == (2, 16)
    assert spec.metrics == (
        MetricSpec("Pods", "gpu_utilization", MetricTarget("AverageValue", average_value_milli=85_000)),
        MetricSpec("Pods", "request_queue_depth", MetricTarget("AverageValue", average_value_milli=10_000)),
    )
    assert spec.behavior.scale_up.stabilization_window_s == 60
    assert spec.behavior.scale_up.policies == (ScalingPolicy("Pods", 2, 60),)
    assert spec.behavior.scale_down.policies == (ScalingPolicy("Pods", 1, 120),)
    assert spec.behavior.scale_down.select_policy is None


@pytest.mark.parametrize(("given", "want"), [(None, None), ({}, Behavior())])
def test_section9_behavior_nil_and_empty_are_kept_apart(load, given, want):
    assert hpa_spec(load(behavior=given)).behavior == want


def test_every_kind_of_metric_is_read(load):
    metrics = [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
        },
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "memory",
                "container": "vllm",
                "target": {"type": "AverageValue", "averageValue": "1Gi"},
            },
        },
        {
            "type": "Object",
            "object": {
                "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"},
                "metric": {"name": "rps"},
                "target": {"type": "Value", "value": "1500m"},
            },
        },
        {
            "type": "External",
            "external": {
                "metric": {"name": "lag", "selector": {"matchLabels": {"topic": "x", "app": "y"}}},
                "target": {"type": "AverageValue", "averageValue": 30},
            },
        },
    ]
    assert hpa_spec(load(metrics=metrics)).metrics == (
        MetricSpec("Resource", "cpu", MetricTarget("Utilization", average_utilization_percent=50)),
        MetricSpec(
            "ContainerResource",
            "memory",
            MetricTarget("AverageValue", average_value_milli=2**30 * 1000),
            container="vllm",
        ),
        MetricSpec(
            "Object", "rps", MetricTarget("Value", value_milli=1500), described_object=("Service", "front")
        ),
        MetricSpec(
            "External",
            "lag",
            MetricTarget("AverageValue", average_value_milli=30_000),
            selector="app=y,topic=x",
        ),
    )


@pytest.mark.parametrize("given", [None, []])
def test_metrics_default_to_cpu_at_80_percent(load, given):
    cpu = MetricSpec("Resource", "cpu", MetricTarget("Utilization", average_utilization_percent=80))
    assert hpa_spec(load(metrics=given)).metrics == (cpu,)


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("85", 85_000),
        ("500m", 500),
        ("0.05", 50),
        (".5", 500),
        ("1.", 1000),
        ("1Gi", 2**30 * 1000),
        ("1.5k", 1_500_000),
        ("1e3", 1_000_000),
        ("1E", 10**18 * 1000),
        ("10u", 1),  # rounded up
        ("1500u", 2),
        ("-1500u", -2),
        (7, 7000),
        (0.05, 50),
    ],
)
def test_quantities_become_milli_units_rounded_up(text, milli):
    assert quantity_milli(text) == min(milli, 2**63 - 1)


@pytest.mark.parametrize("text", ["", "abc", "1 Gi", "1GB", "--1", "1.2.3", True, None, [1]])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="expected a Kubernetes quantity such as 85, 500m or 1Gi"):
        quantity_milli(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0.05", 0.05), ("50m", 0.05), ("0", 0.0), ("1", 1.0), ("0.0005", 0.0005)]
)
def test_section4_tolerance_is_read_as_a_float(text, value):
    assert quantity_float(text) == value


def test_section4_tolerances_reach_the_spec(load):
    spec = hpa_spec(load(behavior={"scaleUp": {"tolerance": "0.05"}, "scaleDown": {"tolerance": 0}}))
    assert spec.behavior.scale_up.tolerance == 0.05
    assert spec.behavior.scale_down.tolerance == 0.0


# Section 12


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"maxReplicas": 1}, "spec.maxReplicas", "at least minReplicas (2)"),
        ({"maxReplicas": 0}, "spec.maxReplicas", "greater than or equal to 1"),
        ({"maxReplicas": None}, "spec.maxReplicas", "required"),
        ({"maxReplicas": "16"}, "spec.maxReplicas", "valid integer"),
        ({"minReplicas": -1}, "spec.minReplicas", "greater than or equal to 0"),
        ({"minReplicas": 0}, "spec.minReplicas", "Object or External"),
    ],
)
def test_section12_replica_limits(refused, change, key, reason):
    assert refused(**change)[0] == key
    assert reason in refused(**change)[1]


def test_section12_min_replicas_zero_is_allowed_with_an_external_metric(load):
    spec = load(minReplicas=0, metrics=[metric("External", "external", averageValue="1")]).spec
    assert spec.min_replicas == 0


def policy(**change):
    return {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60, **change}]}


@pytest.mark.parametrize(
    ("direction", "rules", "key"),
    [
        ("scaleUp", {"stabilizationWindowSeconds": 3601}, "stabilizationWindowSeconds"),
        ("scaleDown", {"stabilizationWindowSeconds": -1}, "stabilizationWindowSeconds"),
        ("scaleUp", policy(value=0), "policies[0].value"),
        ("scaleUp", policy(periodSeconds=0), "policies[0].periodSeconds"),
        ("scaleDown", policy(periodSeconds=1801), "policies[0].periodSeconds"),
        ("scaleDown", policy(type="pods"), "policies[0].type"),
        ("scaleUp", {"policies": []}, "policies"),
        ("scaleUp", {"tolerance": "-0.1"}, "tolerance"),
        ("scaleDown", {"selectPolicy": "Average"}, "selectPolicy"),
    ],
)
def test_section12_behavior_limits(refused, direction, rules, key):
    assert refused(behavior={direction: rules})[0] == f"spec.behavior.{direction}.{key}"


def test_section12_ends_of_the_limits_are_allowed(load):
    rules = {"stabilizationWindowSeconds": 3600, **policy(periodSeconds=1800)}
    load(behavior={"scaleUp": rules, "scaleDown": {"stabilizationWindowSeconds": 0}})


@pytest.mark.parametrize(
    ("given", "key", "reason"),
    [
        (metric(), "spec.metrics[0].pods.target.averageValue", "needs averageValue above 0"),
        (metric(averageValue="0"), "spec.metrics[0].pods.target.averageValue", "greater than 0"),
        (metric(averageValue="ten"), "spec.metrics[0].pods.target.averageValue", "Kubernetes quantity"),
        (metric(value="1"), "spec.metrics[0].pods.target.averageValue", "needs averageValue"),
        (metric("Resource", averageValue="1"), "spec.metrics[0].pods", "takes resource, not pods"),
        ({"type": "Pods"}, "spec.metrics[0].pods", "required for a metric of type Pods"),
        (metric("External", "external"), "spec.metrics[0].external.target.value", "value or averageValue"),
        (
            metric("External", "external", value="1", averageValue="1"),
            "spec.metrics[0].external.target.averageValue",
            "takes one of",
        ),
        (
            metric("Resource", "resource", averageUtilization=50, averageValue="1"),
            "spec.metrics[0].resource.target.averageValue",
            "takes one of",
        ),
        (metric("Weather"), "spec.metrics[0].type", "'Resource'"),
    ],
)
def test_section8_targets_by_kind_are_checked(refused, given, key, reason):
    assert refused(metrics=[given])[0] == key
    assert reason in refused(metrics=[given])[1]


# Errors and files


def test_unknown_keys_are_refused_with_the_key_that_was_meant(refused):
    assert refused(minReplica=3) == ("spec.minReplica", "unknown key; did you mean minReplicas?")
    key, reason = refused(metrics=[metric(averagevalue="1")])
    assert key == "spec.metrics[0].pods.target.averagevalue"
    assert reason == "unknown key; did you mean averageValue?"
    assert "expected one of" in refused(zzz=1)[1]
    assert refused(min_replicas=3)[0] == "spec.min_replicas"


def test_errors_name_file_line_key_and_reason(tmp_path):
    path = tmp_path / "hpa.yaml"
    path.write_text(REAL.replace('"85"', '"lots"'))
    with pytest.raises(ScenarioError) as caught:
        load_hpa(path)
    assert str(caught.value) == (
        f"{path}:19: spec.metrics[0].pods.target.averageValue: "
        "expected a Kubernetes quantity such as 85, 500m or 1Gi, not 'lots'"
    )


@pytest.mark.parametrize("version", ["autoscaling/v1", "autoscaling/v2beta1", "autoscaling/v2beta2"])
def test_older_api_versions_get_advice(refused, version):
    key, reason = refused(REAL.replace("autoscaling/v2", version))
    assert key == "apiVersion"
    assert f"expected autoscaling/v2, not '{version}'" in reason
    assert "kubectl convert" in reason


def test_kind_is_checked(refused):
    assert refused(REAL.replace("kind: Horizontal", "kind: Vertical")) == (
        "kind",
        "expected a manifest of kind HorizontalPodAutoscaler; it has VerticalPodAutoscaler",
    )
    assert refused("")[1].endswith("it is empty")


def test_other_documents_are_passed_over(load):
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: front}\n"
    assert load(f"{service}---\n{REAL}---\n{service}").metadata.name == "llm-serving-hpa"
    listed = yaml.safe_dump(
        {"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(service), yaml.safe_load(REAL)]}
    )
    assert load(listed).metadata.name == "llm-serving-hpa"


def test_an_error_in_one_of_several_documents_names_it(refused):
    service = "apiVersion: v1\nkind: Service\n"
    bad = REAL.replace("maxReplicas: 16", "maxReplicas: 1")
    assert refused(f"{service}---\n{bad}")[0] == "document 2 spec.maxReplicas"


def test_several_autoscalers_in_a_file_are_refused(refused):
    other = REAL.replace("llm-serving-hpa", "other")
    assert refused(f"{REAL}---\n{other}")[1].endswith("found 2: llm-serving-hpa, other")


def test_a_live_object_dumped_by_kubectl_loads(load):
    manifest = yaml.safe_load(REAL)
    manifest["metadata"] |= {
        "uid": "1-2",
        "resourceVersion": "77",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"anything/at-all": "x"},
        "managedFields": [{"manager": "kubectl"}],
    }
    manifest["status"] = {"currentReplicas": 3, "conditions": []}
    assert load(yaml.safe_dump(manifest)).metadata.annotations == {"anything/at-all": "x"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: [1", "not valid YAML"), ("- 1\n", "expected a mapping"), ("a: 1\na: 2\n", "given twice")],
)
def test_broken_yaml_is_one_clear_error(refused, text, reason):
    assert reason in refused(text)[1]


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(ScenarioError, match="no such file"):
        load_hpa(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="folder"):
        load_hpa(tmp_path)


@pytest.mark.parametrize(
    ("selector", "known", "want"),
    [
        ({"matchLabels": {"a": "1"}}, {"a": "1"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchLabels": {"a": "1"}}, {}, True),  # not known: taken to be as wanted
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {"a": "2"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": "1"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": "1"}, False),
    ],
)
def test_selector_against_known_labels(selector, known, want):
    assert LabelSelector.model_validate(selector).matches(known) is want
