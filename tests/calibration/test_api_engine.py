import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from calibration.api_engine import ApiEngine, api_manifest, cache_labels
from calibration.capture_folder import CaptureFolder
from calibration.capture_format import CaptureError, read_capture
from calibration.capture_progress import CaptureProgress
from calibration.capture_run import CaptureRun
from calibration.clock import CaptureClock
from calibration.device_sampler import DeviceSampler
from calibration.plan import LoadedPlan, load_plan
from tests.calibration.test_plan import LOAD, write

METRICS = (
    "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
    'vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="True",engine="0",'
    'gpu_memory_utilization="0.9",num_gpu_blocks="1234"} 1.0\n'
)


class Server(BaseHTTPRequestHandler):
    """As much of vLLM's server as a load needs."""

    seen: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        pages = {
            "/version": json.dumps({"version": "0.32.0"}),
            "/v1/models": json.dumps({"data": [{"id": "served", "max_model_len": 512}]}),
            "/metrics": METRICS,
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(pages[self.path].encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.headers["X-Request-Id"], body))
        self.send_response(200)
        self.end_headers()
        # The last event carries two tokens, as when a client reads late.
        events: list[dict[str, Any]] = [{"choices": [{"text": "x"}]}] * (body["max_tokens"] - 1)
        usage = {
            "completion_tokens": body["max_tokens"],
            "prompt_tokens_details": {"cached_tokens": 16},
        }
        for event in [*events, {"choices": [], "usage": usage}]:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Server.seen.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def plan_of(tmp_path: Path, **vllm: Any) -> LoadedPlan:
    stages = [{"name": "warmup", "kind": "warmup"}, LOAD]
    return load_plan(write(tmp_path, engines=[{"name": "server", "vllm": vllm, "stages": stages}]))


def test_labels() -> None:
    assert cache_labels(METRICS)["num_gpu_blocks"] == "1234"
    assert cache_labels("other 1\n") == {}


def test_the_loads_of_a_plan(tmp_path: Path, url: str) -> None:
    pytest.importorskip("aiohttp", reason="the extra api is not installed")
    plan = plan_of(tmp_path, max_num_seqs=8, max_num_batched_tokens=256)
    folder = CaptureFolder(tmp_path / "out", api_manifest(plan, url, "H200-SXM"), resume=False)
    clock = CaptureClock()
    run = CaptureRun(
        plan,
        folder,
        lambda engine: ApiEngine(plan, engine, url, None),
        CaptureProgress(Console(quiet=True), quiet=True),
        clock,
        DeviceSampler(clock),
        loads_only=True,
    )
    asyncio.run(run.run())
    folder.finish()
    capture = read_capture(tmp_path / "out")
    assert run.not_ok == []
    assert [stage.name for stage in capture.manifest.stages] == ["knee"]
    assert (capture.manifest.engines[0].num_gpu_blocks, capture.manifest.engines[0].max_model_len) == (
        1234,
        512,
    )
    assert capture.steps.num_rows == 0
    requests = capture.requests.to_pylist()
    assert len(requests) == 20
    for request in requests:
        assert (request["status"], request["output_tokens"], request["cached_tokens"]) == ("finished", 5, 16)
        assert request["first_token_us"] <= request["last_token_us"]
    names = sorted(name for name, _ in Server.seen)
    assert names == sorted(f"capture-{number}" for number in range(20))
    assert all(body["ignore_eos"] and "priority" not in body for _, body in Server.seen)
    assert all(len(body["prompt"]) == 20 for _, body in Server.seen)


def test_what_a_server_does_not_tell(tmp_path: Path, url: str) -> None:
    pytest.importorskip("aiohttp", reason="the extra api is not installed")
    plan = plan_of(tmp_path)
    with pytest.raises(CaptureError, match=r"engine server: vllm\.max_num_seqs: the server does not tell it"):
        ApiEngine(plan, plan.plan.engines[0], url, None).facts()


def test_no_server(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    with pytest.raises(CaptureError, match="say what the server runs on with --gpu"):
        api_manifest(plan, "http://127.0.0.1:9", None)
    with pytest.raises(CaptureError, match=r"http://127\.0\.0\.1:9/version"):
        api_manifest(plan, "http://127.0.0.1:9", "CPU")
