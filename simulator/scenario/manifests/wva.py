"""The ConfigMaps of llm-d's workload variant autoscaler: thresholds, and scaling to zero.

Source: llm-d/llm-d-workload-variant-autoscaler@b08b1c77, config/manager/configmap-saturation-scaling.yaml,
internal/interfaces/saturation_scaling.go, config/samples/model-scale-to-zero-config.yaml. One fleet is one variant of
one model: only the ``default`` entries are read. The VariantAutoscaling object adds its cost, which decides between
variants alone, so it is not asked for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from simulator.autoscaling.wva import SaturationConfig
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests.knative import ConfigMap
from simulator.scenario.manifests.kubernetes import load_manifest, place_in_manifest
from simulator.scenario.quantities import PositiveDurationS
from simulator.scenario.validation import explain
from simulator.units import to_ps


class _Thresholds(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    kv_cache_threshold: Annotated[float, Field(gt=0, le=1)] = 0.80
    queue_length_threshold: Annotated[float, Field(ge=0)] = 5.0
    kv_spare_trigger: Annotated[float, Field(ge=0, le=1)] = 0.1
    queue_spare_trigger: Annotated[float, Field(ge=0)] = 3.0
    enable_limiter: bool = False
    analyzer_name: Literal["", "saturation"] = ""
    scale_up_threshold: Annotated[float, Field(gt=0, le=1)] = 0.85
    scale_down_boundary: Annotated[float, Field(gt=0, le=1)] = 0.70


class _Zero(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    enable_scale_to_zero: bool = False
    retention_period: PositiveDurationS = 600.0


_Entry = TypeVar("_Entry", bound=BaseModel)


def _default_entry(path: Path, model: type[_Entry]) -> tuple[_Entry, str, str]:
    """The ``default`` entry of a ConfigMap, with its place."""
    config = load_manifest(path, ConfigMap, "ConfigMap", "v1", {})
    file, key = place_in_manifest(path, "ConfigMap", ["data", "default"])
    if "default" not in config.data:
        raise ScenarioError("this key is required", file=file, key=key)
    try:
        data = yaml.safe_load(config.data["default"]) or {}
        if not isinstance(data, dict):
            raise ScenarioError("expected keys and values", file=file, key=key)
        return model.model_validate(data), file, key
    except yaml.YAMLError as error:
        raise ScenarioError(f"not valid YAML: {error}", file=file, key=key) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        steps = list(first["loc"])
        below = ".".join(map(str, steps))
        raise ScenarioError(explain(model, steps, first), file=file, key=f"{key}.{below}") from None


def load_saturation_config(path: Path) -> SaturationConfig:
    """The thresholds of the ConfigMap in a file.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    thresholds, file, key = _default_entry(path, _Thresholds)
    if thresholds.enable_limiter:
        raise ScenarioError("the GPU limiter is not modelled", file=file, key=f"{key}.enableLimiter")
    by_tokens = thresholds.analyzer_name == "saturation"
    if by_tokens and thresholds.scale_up_threshold <= thresholds.scale_down_boundary:
        raise ScenarioError(
            f"expected more than scaleDownBoundary, {thresholds.scale_down_boundary:g}",
            file=file,
            key=f"{key}.scaleUpThreshold",
        )
    return SaturationConfig(
        kv_cache_threshold=thresholds.kv_cache_threshold,
        queue_length_threshold=thresholds.queue_length_threshold,
        kv_spare_trigger=thresholds.kv_spare_trigger,
        queue_spare_trigger=thresholds.queue_spare_trigger,
        by_tokens=by_tokens,
        scale_up_threshold=thresholds.scale_up_threshold,
        scale_down_boundary=thresholds.scale_down_boundary,
    )


def load_scale_to_zero(path: Path, config: SaturationConfig) -> SaturationConfig:
    """The settings with those of a scale-to-zero ConfigMap.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    zero, _, _ = _default_entry(path, _Zero)
    return replace(config, scale_to_zero=zero.enable_scale_to_zero, retention_ps=to_ps(zero.retention_period))
