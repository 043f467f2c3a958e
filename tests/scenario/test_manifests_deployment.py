"""The Deployment's manifest: loading, Kubernetes' defaults, and what is refused."""

import pytest
import yaml

from simulator.cluster.rolling import Bounds
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests import load_deployment

REAL = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: vllm-deployment
  labels: {app: vllm}
spec:
  replicas: 2
  selector:
    matchLabels: {app: vllm}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      labels: {app: vllm, tier: serving}
      annotations: {prometheus.io/scrape: "true"}
    spec:
      terminationGracePeriodSeconds: 120
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}
      tolerations:
      - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
      affinity:
        podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}
      volumes:
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: 16Gi}
      initContainers:
      - name: fetch
        image: busybox
      - name: metrics
        image: exporter
        restartPolicy: Always
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.26.0
        args: ["--config", "/etc/vllm/config.yaml"]
        env:
        - {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: hf, key: token}}}
        ports:
        - {containerPort: 8000, name: http}
        resources:
          requests: {cpu: 8, memory: 64Gi}
          limits: {nvidia.com/gpu: 4, memory: 96Gi}
        volumeMounts:
        - {name: shm, mountPath: /dev/shm}
        startupProbe:
          httpGet: {path: /health, port: http}
          failureThreshold: 60
        readinessProbe:
          httpGet: {path: /health, port: 8000}
          periodSeconds: 5
        livenessProbe:
          tcpSocket: {port: 8000}
          initialDelaySeconds: 600
        lifecycle:
          preStop:
            exec: {command: ["/bin/sh", "-c", "sleep 15"]}
"""


@pytest.fixture
def load(tmp_path):
    def run(change=None):
        manifest = yaml.safe_load(REAL)
        if change is not None:
            change(manifest["spec"], manifest["spec"]["template"]["spec"])
        path = tmp_path / "deployment.yaml"
        path.write_text(yaml.safe_dump(manifest))
        return load_deployment(path)

    return run


@pytest.fixture
def refused(load):
    def run(change):
        with pytest.raises(ScenarioError) as caught:
            load(change)
        assert "deployment.yaml" in caught.value.file
        return caught.value.key, caught.value.reason

    return run


def test_a_full_manifest_loads_as_it_is(tmp_path):
    path = tmp_path / "deployment.yaml"
    path.write_text(REAL)
    deployment = load_deployment(path)
    assert deployment.spec.replicas == 2
    assert deployment.gpus == 4
    pod = deployment.pod
    assert pod.termination_grace_period_seconds == 120
    assert pod.pre_stop_s == 15.0
    assert [sidecar.name for sidecar in pod.sidecars] == ["metrics"]
    assert pod.node_selector == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert pod.tolerations[0].operator == "Exists"
    requests = pod.containers[0].resources.effective_requests_milli
    assert requests == {"cpu": 8000, "memory": 64 * 2**30 * 1000, "nvidia.com/gpu": 4000}


def test_probes_have_kubernetes_defaults(load):
    vllm = load().pod.containers[0]
    startup, readiness, liveness = vllm.startup_probe, vllm.readiness_probe, vllm.liveness_probe
    assert (startup.period_seconds, startup.timeout_seconds, startup.failure_threshold) == (10, 1, 60)
    assert (readiness.period_seconds, readiness.failure_threshold, readiness.success_threshold) == (5, 3, 1)
    assert (liveness.initial_delay_seconds, readiness.initial_delay_seconds) == (600, 0)
    assert startup.http_get.port == "http"
    assert startup.http_get.scheme == "HTTP"


def test_defaults_of_what_is_left_out(load):
    def strip(spec, pod):
        for key in ("replicas", "strategy"):
            del spec[key]
        for key in ("terminationGracePeriodSeconds", "initContainers", "tolerations"):
            del pod[key]
        for key in ("lifecycle", "resources", "startupProbe", "readinessProbe", "livenessProbe"):
            del pod["containers"][0][key]

    deployment = load(strip)
    assert deployment.spec.replicas == 1
    assert deployment.spec.min_ready_seconds == 0
    assert deployment.spec.progress_deadline_seconds == 600
    assert deployment.spec.strategy.rolling_update.max_surge == "25%"
    assert deployment.pod.termination_grace_period_seconds == 30
    assert deployment.pod.pre_stop_s == 0.0
    assert deployment.gpus == 0


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "want"),
    [("25%", "25%", 3, (1, 0)), ("25%", "25%", 10, (3, 2)), (2, 1, 5, (2, 1)), ("0%", "25%", 2, (0, 1))],
)
def test_rolling_update_percentages_round_up_for_surge_and_down_for_unavailable(
    load, surge, unavailable, replicas, want
):
    def change(spec, _):
        spec["strategy"]["rollingUpdate"] = {"maxSurge": surge, "maxUnavailable": unavailable}

    rolling = load(change).spec.strategy.rolling_update
    assert Bounds(rolling.max_surge, rolling.max_unavailable).resolve(replicas) == want


def test_a_key_left_empty_is_a_key_not_given(load, refused):
    def empty(spec, pod):
        pod["nodeSelector"] = pod["volumes"] = None
        pod["containers"][0]["env"] = pod["terminationGracePeriodSeconds"] = None
        spec["replicas"] = None

    deployment = load(empty)
    assert deployment.spec.replicas == 1
    assert deployment.pod.termination_grace_period_seconds == 30
    assert deployment.pod.node_selector == {}
    assert refused(lambda spec, _: spec.update(replica=None))[0] == "spec.replica"
    key, reason = refused(lambda spec, _: spec.update(template=None))
    assert (key, reason) == ("spec.template", "this key is required")


def test_recreate_has_no_rolling_update(load, refused):
    assert (
        load(lambda spec, _: spec.update(strategy={"type": "Recreate"})).spec.strategy.rolling_update is None
    )
    key, _ = refused(lambda spec, _: spec["strategy"].update(type="Recreate"))
    assert key == "spec.strategy.rollingUpdate"


@pytest.mark.parametrize(
    ("hook", "seconds"),
    [
        ({"exec": {"command": ["sleep", "30"]}}, 30.0),
        ({"exec": {"command": ["/bin/sh", "-c", "sleep 5; kill -TERM 1; sleep 2.5"]}}, 7.5),
        ({"exec": {"command": ["/bin/bash", "-c", "sleep 1m && true"]}}, 60.0),
        ({"exec": {"command": ["/drain.sh", "--no-sleep", "9"]}}, 0.0),
        ({"sleep": {"seconds": 20}}, 20.0),
        ({"httpGet": {"path": "/drain", "port": 8000}}, 0.0),
    ],
)
def test_pre_stop_pause_is_read_from_the_hook(load, hook, seconds):
    def change(_, pod):
        pod["containers"][0]["lifecycle"] = {"preStop": hook}

    assert load(change).pod.pre_stop_s == seconds


def container(**keys):
    return lambda spec, pod: pod["containers"][0].update(keys)


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (lambda spec, _: spec.update(replica=2), "spec.replica", "did you mean replicas?"),
        (
            lambda _, pod: pod.update(terminationGracePeriod=2),
            "spec.template.spec.terminationGracePeriod",
            "did you mean terminationGracePeriodSeconds?",
        ),
        (
            container(readinesProbe={}),
            "spec.template.spec.containers[0].readinesProbe",
            "did you mean readinessProbe?",
        ),
        (
            container(readinessProbe={"httpGet": {"port": 1}, "periodSecond": 5}),
            "spec.template.spec.containers[0].readinessProbe.periodSecond",
            "did you mean periodSeconds?",
        ),
        (
            container(readinessProbe={"periodSeconds": 5}),
            "spec.template.spec.containers[0].readinessProbe",
            "expected exactly one of exec, httpGet, tcpSocket, grpc",
        ),
        (
            container(livenessProbe={"httpGet": {"port": 1}, "successThreshold": 2}),
            "spec.template.spec.containers[0].livenessProbe.successThreshold",
            "must be 1",
        ),
        (
            container(readinessProbe={"httpGet": {"port": 1}, "periodSeconds": 0}),
            "spec.template.spec.containers[0].readinessProbe.periodSeconds",
            "greater than or equal to 1",
        ),
        (
            container(resources={"limits": {"nvidia.com/gpu": "500m"}}),
            "spec.template.spec.containers[0].resources.limits.nvidia.com/gpu",
            "whole number of GPUs",
        ),
        (
            container(resources={"requests": {"nvidia.com/gpu": 1}}),
            "spec.template.spec.containers[0].resources.limits.nvidia.com/gpu",
            "required where GPUs are requested",
        ),
        (
            container(resources={"limits": {"memory": "64GB"}}),
            "spec.template.spec.containers[0].resources.limits.memory",
            "Kubernetes quantity",
        ),
        (lambda _, pod: pod.update(containers=[]), "spec.template.spec.containers", "at least 1 item"),
        (
            lambda spec, _: spec.update(selector={"matchLabels": {"app": "x"}}),
            "spec.template.metadata.labels",
            "app: x",
        ),
        (lambda spec, _: spec.pop("selector"), "spec.selector", "required"),
        (
            lambda spec, _: spec["strategy"].update(rollingUpdate={"maxSurge": [1]}),
            "spec.strategy.rollingUpdate.maxSurge",
            "expected a valid integer",
        ),
        (
            lambda spec, _: spec["strategy"].update(rollingUpdate={"maxSurge": "a quarter"}),
            "spec.strategy.rollingUpdate.maxSurge",
            "25%",
        ),
    ],
)
def test_mistakes_are_refused_by_key(refused, change, key, reason):
    got_key, got_reason = refused(change)
    assert got_key == key
    assert reason in got_reason


def test_older_api_version_gets_advice(tmp_path):
    path = tmp_path / "deployment.yaml"
    path.write_text(REAL.replace("apps/v1", "extensions/v1beta1"))
    with pytest.raises(ScenarioError, match=r"expected apps/v1, not 'extensions/v1beta1'; gone since"):
        load_deployment(path)
