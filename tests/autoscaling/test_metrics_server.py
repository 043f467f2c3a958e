"""CPU and memory as metrics-server has them: computed by hand from declared usage."""

from types import SimpleNamespace

import pytest

from simulator.autoscaling.hpa_types import Container
from simulator.autoscaling.metrics_server import MetricsServer, PodTemplate, pod_template
from simulator.clock import Clock
from simulator.cluster.pods import Pod
from simulator.draws import Draws
from simulator.scenario.manifests.deployment import DeploymentManifest
from simulator.scenario.resource_metrics import ResourceMetrics
from simulator.units import PS_PER_S, to_ps
from tests import small

GIB = 2**30


class World:
    """One pod that starts at 100 s, listens from 160 s on, and whose GPU is busy half of the time then."""

    def __init__(self, template=None, **config):
        self.clock = Clock()
        self.pod = Pod("p", 0, 0.5, 0)
        usage = {"cpu_loading": 2.0, "cpu_idle": 0.5, "cpu_busy": 1.5, "memory": 4 * GIB}
        self.server = MetricsServer(
            self.clock,
            self,
            Draws(1),
            ResourceMetrics(server=usage, **{"delay": 0, **config}),
            template or PodTemplate(),
        )
        self.clock.call_at(to_ps(100), self._container)
        self.clock.call_at(to_ps(160), self._listens)

    def pods(self):
        return (self.pod,)

    def _container(self, _):
        self.pod.container_ps = self.clock.now

    def _listens(self, _):
        def peek():
            return SimpleNamespace(counters=SimpleNamespace(busy_ps=(self.clock.now - to_ps(160)) // 2))

        self.pod.replica = SimpleNamespace(listening=True, peek=peek)

    def at(self, second):
        self.clock.run(until=to_ps(second))
        return self.server.usage(self.clock.now).pods.get("p")


@pytest.fixture
def world():
    return World


def test_no_sample_until_the_container_has_run_for_a_window(world):
    w = world()
    assert w.at(100) is None
    assert w.at(129) is None
    sample = w.at(146)  # the third measurement since the start is a window after the first
    assert sample.window_ps == 30 * PS_PER_S
    assert sample.containers == {"vllm": {"cpu": 2000, "memory": 4000 * GIB}}


def test_cpu_follows_the_busy_share(world):
    # Half idle, half busy: 0.5 + 0.5 * (1.5 - 0.5).
    assert world().at(300).containers["vllm"]["cpu"] == pytest.approx(1000, abs=1)


def test_the_answer_is_late(world):
    w, late = world(), world(delay=20)
    assert w.at(300).timestamp_ps - late.at(300).timestamp_ps in (15 * PS_PER_S, 30 * PS_PER_S)


def test_a_restarted_container_begins_anew(world):
    w = world()
    assert w.at(300) is not None
    w.pod.container_ps, w.pod.replica = w.clock.now, None
    assert w.at(318) is None
    assert w.at(346).containers["vllm"]["cpu"] == 2000


def test_a_gone_pod_is_forgotten(world):
    w = world()
    w.at(300)
    w.pods = lambda: ()
    assert w.at(316) is None


def test_other_containers_use_a_share_of_their_requests(world):
    template = PodTemplate(
        containers=(Container("vllm"), Container("proxy", {"cpu": 500, "memory": 1000 * GIB})), server="vllm"
    )
    w = world(template, other_containers=0.2)
    assert w.at(300).containers["proxy"] == {"cpu": 100, "memory": 200 * GIB}


def manifest(*containers, sidecars=()):
    return DeploymentManifest.model_validate(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "vllm"},
            "spec": {
                "selector": {"matchLabels": {"app": "vllm"}},
                "template": {
                    "metadata": {"labels": {"app": "vllm"}},
                    "spec": {"containers": list(containers), "initContainers": list(sidecars)},
                },
            },
        }
    )


def test_template_of_a_deployment():
    proxy = {"name": "proxy", "resources": {"requests": {"cpu": "100m"}}}
    server = {
        "name": "server",
        "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": "1"}},
    }
    log = {"name": "log", "restartPolicy": "Always"}
    template = pod_template(manifest(proxy, server, sidecars=[log]))
    assert template.server == "server"
    assert template.containers[0] == Container("proxy", {"cpu": 100})
    assert template.containers[1].requests_milli["cpu"] == 2000
    assert template.containers[1].requests_milli["memory"] == 1000 * GIB  # a limit is also the request
    assert [c.name for c in template.sidecars] == ["log"]
    assert pod_template(None).containers == (Container("vllm"),)


def test_a_fleet_that_scales_on_cpu(tmp_path):
    """A run: one busy replica uses 1.4 of its 1 core, so 60 % of the request wants three."""
    import yaml

    server = {
        "name": "vllm",
        "image": "vllm",
        "resources": {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": 1}},
    }
    deployment = manifest(server).model_dump(mode="json", by_alias=True, exclude_unset=True)
    deployment["spec"]["template"]["spec"]["containers"][0]["resources"] = server["resources"]
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(deployment))
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
    }
    change = {
        "duration": "3m",
        "fleet": {"deployment": "deployment.yaml"},
        "workload": [{**small.SCENARIO["workload"][0], "arrivals": {"kind": "poisson", "rate": "30/s"}}],
    }
    results = small.results(tmp_path, change, hpa={"spec": {"metrics": [metric]}})
    events = results.tables.events
    texts = events.message[events.reason == "SuccessfulRescale"].tolist()
    assert texts
    assert "% of the request)" in texts[0]
    # No sample at first: the metrics API has nothing.
    assert "FailedGetResourceMetric" in events.reason.tolist()
