"""The saturation-scaling ConfigMap of llm-d's workload variant autoscaler.

Source: llm-d/llm-d-workload-variant-autoscaler@b08b1c77, config/manager/configmap-saturation-scaling.yaml. One fleet is
one variant: only the ``default`` entry is read. The VariantAutoscaling object adds its cost, which decides between
variants alone, so it is not asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from simulator.autoscaling.wva import SaturationConfig
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests.knative import ConfigMap
from simulator.scenario.manifests.kubernetes import load_manifest, place_in_manifest
from simulator.scenario.validation import explain


class _Thresholds(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    kv_cache_threshold: Annotated[float, Field(gt=0, le=1)] = 0.80
    queue_length_threshold: Annotated[float, Field(ge=0)] = 5.0
    kv_spare_trigger: Annotated[float, Field(ge=0, le=1)] = 0.1
    queue_spare_trigger: Annotated[float, Field(ge=0)] = 3.0
    enable_limiter: bool = False


def load_saturation_config(path: Path) -> SaturationConfig:
    """The thresholds of the ConfigMap in a file.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    config = load_manifest(path, ConfigMap, "ConfigMap", "v1", {})
    file, key = place_in_manifest(path, "ConfigMap", ["data", "default"])
    if "default" not in config.data:
        raise ScenarioError("this key is required", file=file, key=key)
    try:
        data = yaml.safe_load(config.data["default"]) or {}
        if not isinstance(data, dict):
            raise ScenarioError("expected keys and values", file=file, key=key)
        thresholds = _Thresholds.model_validate(data)
    except yaml.YAMLError as error:
        raise ScenarioError(f"not valid YAML: {error}", file=file, key=key) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        steps = list(first["loc"])
        below = ".".join(map(str, steps))
        raise ScenarioError(explain(_Thresholds, steps, first), file=file, key=f"{key}.{below}") from None
    if thresholds.enable_limiter:
        raise ScenarioError("the GPU limiter is not modelled", file=file, key=f"{key}.enableLimiter")
    return SaturationConfig(
        kv_cache_threshold=thresholds.kv_cache_threshold,
        queue_length_threshold=thresholds.queue_length_threshold,
        kv_spare_trigger=thresholds.kv_spare_trigger,
        queue_spare_trigger=thresholds.queue_spare_trigger,
    )
