import json
from pathlib import Path

from calibration.startup_log import errors, logging_config, read_log, startup_phases

# Lines as vLLM 0.26 logs them on a GPU, at made-up times.
LOG = """\
100.5 INFO vllm.v1.engine.core Initializing a V1 LLM engine (v0.26.0) with config: model='x',
 a second line of the message
108.0 INFO vllm.v1.worker.gpu_model_runner Starting to load model x...
110.0 INFO vllm.model_executor.model_loader Loading weights took 1.5 seconds
111.0 INFO vllm.v1.worker.gpu_model_runner Model loading took 15.0 GiB memory and 3.0 seconds
112.0 INFO vllm.compilation.backends Using cache directory: y for vLLM's torch.compile
116.0 INFO vllm.compilation.backends Dynamo bytecode transform time: 4.0 s
130.0 INFO vllm.compilation.monitor torch.compile took 18.0 s in total
131.0 INFO vllm.v1.worker.gpu_worker Available KV cache memory: 100.0 GiB
131.5 INFO vllm.v1.core.kv_cache_utils GPU KV cache size: 800,000 tokens
132.0 INFO vllm.v1.worker.gpu_model_runner Capturing CUDA graphs (mixed prefill-decode, PIECEWISE)
140.0 INFO vllm.v1.worker.gpu_model_runner Graph capturing finished in 8 secs, took 0.5 GiB
140.5 ERROR vllm.other something failed
"""


def test_phases(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text(LOG)
    lines = read_log(log)
    phases = {p.phase: (p.start_s, p.end_s) for p in startup_phases(lines, 100.0, 142.0)}
    assert phases == {
        "process": (0.0, 8.0),
        "weights": (8.0, 11.0),
        "compile": (12.0, 30.0),
        "kv_cache": (31.0, 32.0),
        "graph_capture": (32.0, 40.0),
        "ready": (40.0, 42.0),
    }
    assert errors(lines) == ["ERROR vllm.other something failed"]
    assert len(read_log(log, since=132.0)) == 3


def test_an_eager_engine_compiles_nothing() -> None:
    lines = [(1.0, "x Starting to load model y"), (2.0, "x Initializing model took 0.1 seconds")]
    phases = startup_phases(lines, 0.0, 5.0)
    assert [p.phase for p in phases] == ["process", "weights", "ready"]
    assert phases[-1].start_s == 2.0


def test_logging_configuration(tmp_path: Path) -> None:
    configuration = json.loads(logging_config(tmp_path / "engine.log"))
    assert configuration["handlers"]["file"]["filename"] == str(tmp_path / "engine.log")
