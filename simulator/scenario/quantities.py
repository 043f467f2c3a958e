"""Quantities as people write them in a scenario: ``30s``, ``2h``, ``12/s``, ``500/min``, ``80GiB``.

Each type validates to a plain float or int in the unit its name says, so that code behind the schema never
sees a string. A bare number is taken in the base unit (seconds, per second, bytes).
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_NUMBER: Final = r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[+-]?\.\d+)\s*"
_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES: Final = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def _parse(value: Any, units: dict[str, float], what: str, example: str) -> float:
    if isinstance(value, bool):
        raise ValueError(f"expected {what} such as {example}, not {value}")
    if isinstance(value, int | float):
        number = float(value)
    else:
        names = "|".join(sorted(map(re.escape, units), key=len, reverse=True))
        match = re.fullmatch(f"{_NUMBER}({names})?\\s*", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"expected {what} such as {example}, not {value!r}")
        number = float(match[1]) * (units[match[2]] if match[2] else 1.0)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite {what.rsplit(maxsplit=1)[-1]}, not {value!r}")
    return number


def parse_duration_s(value: Any) -> float:
    """``"90s"``, ``"1.5h"``, ``"2m"`` or a number of seconds, to seconds."""
    text = value if not isinstance(value, str) else value.strip()
    if isinstance(text, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)", text)
        if len(parts) > 1 and re.fullmatch(r"(?:\d+(?:\.\d+)?\s*(?:ms|min|s|m|h|d|w)\s*)+", text):
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)  # "1h30m"
    return _parse(value, _SECONDS, "a duration", "30s, 5m or 2h")


def parse_rate_per_s(value: Any) -> float:
    """``"12/s"``, ``"700/min"``, ``"3/h"`` or a number per second, to a rate per second."""
    units = {f"/{name}": 1.0 / seconds for name, seconds in _SECONDS.items()}
    return _parse(value, units, "a rate", "12/s, 700/min or 3/h")


def parse_bytes(value: Any) -> int:
    """``"80GiB"``, ``"16GB"``, ``"24Gi"`` or a number of bytes, to bytes."""
    return round(_parse(value, {k: float(v) for k, v in _BYTES.items()}, "a size", "80GiB or 16GB"))


def _schema(pattern_hint: str, example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [{"type": "number"}, {"type": "string"}],
            "description": pattern_hint,
            "examples": [example],
        }
    )


DurationS = Annotated[
    float, BeforeValidator(parse_duration_s), Field(ge=0), _schema("duration, e.g. 30s, 5m, 2h", "30s")
]
"""A duration of at least 0, in seconds."""

PositiveDurationS = Annotated[
    float, BeforeValidator(parse_duration_s), Field(gt=0), _schema("duration above 0, e.g. 30s, 2h", "30s")
]
"""A duration above 0, in seconds."""

RatePerS = Annotated[
    float, BeforeValidator(parse_rate_per_s), Field(ge=0), _schema("rate, e.g. 12/s, 700/min", "12/s")
]
"""A rate of at least 0, per second."""

PositiveRatePerS = Annotated[
    float, BeforeValidator(parse_rate_per_s), Field(gt=0), _schema("rate above 0, e.g. 12/s, 700/min", "12/s")
]
"""A rate above 0, per second."""

SizeBytes = Annotated[
    int, BeforeValidator(parse_bytes), Field(ge=0), _schema("size, e.g. 80GiB, 16GB", "80GiB")
]
"""A size in bytes."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share, 0 to 1."""


class Section(BaseModel):
    """Base of every part of a scenario: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )
