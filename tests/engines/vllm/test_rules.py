"""What differs between the releases, by hand."""

from dataclasses import replace

import pytest

from simulator.engines.protocol import EngineRequest
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.request import Request
from simulator.engines.vllm.request_queue import FCFSQueue
from simulator.engines.vllm.rules import CHECKED_VERSIONS, known_versions, rules_of


def config(version: str, **changes: object) -> EngineConfig:
    return EngineConfig(num_gpu_blocks=100, max_model_len=4096, vllm_version=version, **changes)  # type: ignore[arg-type]


def test_older_releases_have_the_rules_of_the_oldest_checked_one() -> None:
    older = known_versions()[: known_versions().index("0.26")]
    of_start_up = {"counts_cuda_graphs": True, "gpu_memory_utilization": 0.92}
    assert older[0] == "0.19"
    assert all(replace(rules_of(version), **of_start_up) == rules_of("0.26") for version in older)
    assert rules_of("0.26") != rules_of("0.32")
    assert all(config(version).version_is_checked for version in CHECKED_VERSIONS)


def test_the_long_prefill_threshold_spares_a_lone_request_from_0_32_on() -> None:
    assert config("0.26", long_prefill_token_threshold=64).long_prefill_threshold(1) == 64
    assert config("0.32", long_prefill_token_threshold=64).long_prefill_threshold(1) == 0
    assert config("0.32", long_prefill_token_threshold=64).long_prefill_threshold(2) == 64


def test_the_adaptive_threshold_is_a_fair_share() -> None:
    adaptive = config("0.32", long_prefill_token_threshold=64, long_prefill_token_threshold_adaptive=True)
    assert [adaptive.long_prefill_threshold(n) for n in (1, 2, 8, 64)] == [0, 1024, 256, 64]


@pytest.mark.parametrize(
    "setting",
    [
        {"max_num_active_seqs": 4},
        {"long_prefill_token_threshold_adaptive": True},
        {"max_num_queued_reqs": 10},
        {"max_num_queued_tokens": 10},
    ],
)
def test_a_setting_that_a_release_lacks_is_refused(setting: dict[str, int]) -> None:
    (name,) = setting
    with pytest.raises(ValueError, match=f"^{name}: vLLM 0.26 has no such setting"):
        config("0.26", **setting)
    config("0.32", **setting)


def test_a_threshold_over_the_model_length_is_refused_from_0_32_on() -> None:
    config("0.26", long_prefill_token_threshold=5000)
    with pytest.raises(ValueError, match=r"^long_prefill_token_threshold: 5000 is greater"):
        config("0.32", long_prefill_token_threshold=5000)


@pytest.mark.parametrize(("apart", "order"), [(True, [0, 9, 1, 2]), (False, [9, 0, 1, 2])])
def test_a_victim_comes_behind_skipped_requests_in_0_26_and_before_them_in_0_32(
    apart: bool, order: list[int]
) -> None:
    requests = {i: Request(EngineRequest(i, 5, 5, 5), i) for i in (0, 1, 2, 9)}
    queue = FCFSQueue(skipped_wait_apart=apart)
    for i in range(3):
        queue.add(requests[i])
    skipped = queue.pop()
    queue.put_back_skipped([skipped])
    queue.put_back(requests[9])
    assert [request.request_id for request in queue] == order
    queue.remove(requests[0])
    assert queue.peek() is requests[9]
