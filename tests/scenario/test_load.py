"""A scenario with its files: what is found, what fits together, what is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import load_scenario
from tests.small import write

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

LLAMA_2_70B = """\
model: "meta-llama/Llama-2-70b-hf"
served-model-name: "llama-2-70b"
tensor-parallel-size: 4
pipeline-parallel-size: 1
gpu-memory-utilization: 0.92
max-num-batched-tokens: 8192
max-num-seqs: 256
block-size: 16
swap-space: 4
max-logprobs: 5
disable-log-requests: false
host: "0.0.0.0"
port: 8000
"""


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.name)
def test_experiments_load(path: Path) -> None:
    assert load_scenario(path).scenario.name == path.stem


def test_files_are_found_beside_the_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vllm.yaml").write_text(LLAMA_2_70B)
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", hpa={})
    path = tmp_path / "deep" / "scenario.yaml"
    data = yaml.safe_load(path.read_text())
    data["engine"]["vllm"] = "../vllm.yaml"
    path.write_text(yaml.safe_dump(data))
    monkeypatch.chdir("/")
    loaded = load_scenario(path)
    assert loaded.vllm.tensor_parallel_size == 4
    assert loaded.policies[0].content is not None
    assert loaded.base_dir == tmp_path / "deep"
    assert [note.partition(":")[0] for note in loaded.notes] == ["swap-space", "disable-log-requests"]


def test_overrides_reach_scenario_and_inline_vllm(tmp_path: Path) -> None:
    loaded = load_scenario(write(tmp_path), ["workload.0.arrivals.rate=12/min", "engine.vllm.max-num-seqs=3"])
    assert loaded.scenario.workload[0].arrivals.rate == 0.2  # type: ignore[union-attr]
    assert loaded.vllm.max_num_seqs == 3
    assert loaded.data["workload"][0]["arrivals"]["rate"] == "12/min"


def test_on_is_a_key_and_not_the_word_for_true(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "clients:\n  retry:\n    on: [cut, timeout]\n")
    retry = load_scenario(path).scenario.clients.retry
    assert retry is not None
    assert retry.on == ["cut", "timeout"]


@pytest.mark.parametrize(("text", "meant"), [("yes", True), ("off", False), ("true", True), ("False", False)])
def test_older_words_for_booleans_are_understood(tmp_path: Path, text: str, meant: bool) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("cluster:", f"cluster:\n  cold_start: {{prepulled: {text}}}", 1))
    assert load_scenario(path).scenario.cluster.cold_start.prepulled is meant


def test_hpa_of_another_deployment(tmp_path: Path) -> None:
    manifest: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "other"},
        "spec": {
            "selector": {"matchLabels": {"app": "vllm"}},
            "template": {
                "metadata": {"labels": {"app": "vllm"}},
                "spec": {"containers": [{"name": "vllm", "image": "vllm"}]},
            },
        },
    }
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(manifest))
    path = write(tmp_path, {"fleet": {"deployment": "deployment.yaml"}}, hpa={})
    with pytest.raises(ScenarioError, match=r"HPA scales Deployment 'vllm', but .* 'other'") as error:
        load_scenario(path)
    assert error.value.key == "fleet.autoscaling.policies.0.manifest"


def test_a_deployment_without_probes_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, {"fleet": {"deployment": "deployment.yaml"}})
    for probe in (None, {"httpGet": {"path": "/health", "port": 8000}}):
        container = {"name": "vllm", "image": "vllm"} | ({} if probe is None else {"readinessProbe": probe})
        pod = {"metadata": {"labels": {"app": "vllm"}}, "spec": {"containers": [container]}}
        spec = {"selector": {"matchLabels": {"app": "vllm"}}, "template": pod}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "vllm"}, "spec": spec}
        (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(manifest))
        told = [note for note in load_scenario(path).notes if "readinessProbe" in note]
        assert len(told) == (probe is None)


def test_inline_vllm_errors_name_their_key(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as error:
        load_scenario(write(tmp_path, {"engine": {"vllm": {"max-num-seq": 3}}}))
    assert error.value.key == "engine.vllm.max-num-seq"
    assert error.value.file is not None
    assert error.value.file.startswith(str(tmp_path / "scenario.yaml:"))
