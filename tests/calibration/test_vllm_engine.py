import json
from pathlib import Path

import pytest

from calibration.capture_format import CaptureError
from calibration.vllm_engine import model_config
from simulator.catalog import find_model, model_from_config


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "Qwen/Qwen3-14B", "Qwen/Qwen2.5-7B"])
def test_a_config_json_says_what_the_shape_says(tmp_path: Path, name: str) -> None:
    shape = find_model(name).shape
    (tmp_path / "config.json").write_text(json.dumps(model_config(shape)))
    assert model_from_config(tmp_path / "config.json").shape == shape


def test_experts_need_their_own_config() -> None:
    with pytest.raises(CaptureError, match=r"needs a config"):
        model_config(find_model("mistralai/Mixtral-8x7B-v0.1").shape)
