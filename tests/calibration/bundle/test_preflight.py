import json
import subprocess
import sys

from calibration.bundle.build import ON_HOST
from calibration.bundle.on_host import preflight, start


def test_the_start_script_knows_every_group_of_checks():
    assert tuple(preflight.CHECKS) == start.CHECKS


def test_a_check_reports_whatever_happens(monkeypatch, capsys):
    def left_out(manifest):
        raise preflight.LeftOutError("no GPU")

    def fails(manifest):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setitem(preflight.CHECKS, "group", {"a": lambda m: "fine", "b": left_out, "c": fails})
    assert preflight.run("group", {}) == {
        "a": {"status": "ok", "detail": "fine"},
        "b": {"status": "left out", "detail": "no GPU"},
        "c": {"status": "failed", "detail": "RuntimeError: first line"},
    }
    assert "Traceback" in capsys.readouterr().err


def test_the_last_line_is_the_result(tmp_path, monkeypatch):
    (tmp_path / "m.json").write_text("{}")
    command = [sys.executable, str(ON_HOST / "preflight.py"), "versions", str(tmp_path / "m.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))
    assert set(said) == {"torch", "gpu"}
    assert {"failed", "left out"} >= {result["status"] for result in said.values()}


def test_modules_are_checked_by_name():
    assert preflight.check_module("json")({}) == json.__version__
    assert preflight.check_module("json.decoder")({}) == "imported"


def test_the_tiny_model_is_a_llama_in_bf16(tmp_path):
    config = json.loads((tmp_path / preflight.tiny_model(str(tmp_path)) / "config.json").read_text())
    assert config["hidden_size"] == config["num_attention_heads"] * config["head_dim"]
    assert config["torch_dtype"] == "bfloat16"
