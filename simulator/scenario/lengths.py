"""How long prompts and answers are: the keys of ``workload.N.lengths``."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from simulator.scenario.distributions import LognormalTokens, Tokens
from simulator.scenario.quantities import Section

BuiltinModel = Literal[
    "azure-2023-conversation", "azure-2023-code", "azure-2024-conversation", "azure-2024-code"
]
"""Statistical models that ship with the simulator (`simulator/workload/models`)."""


class _Lengths(Section):
    max_total_tokens: Annotated[int, Field(ge=2)] | None = None
    """Longest prompt and answer together: an answer is cut to leave the prompt a token, then the prompt to what
    the answer leaves."""


class FixedLengths(_Lengths):
    """Every request alike."""

    kind: Literal["fixed"]
    input: Tokens
    output: Tokens


class TokenRange(Section):
    """Uniform over the whole numbers from min to max, both included."""

    min: Tokens
    max: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


class UniformLengths(_Lengths):
    """Uniform and independent, as ``vllm bench serve --random-range-ratio`` draws them."""

    kind: Literal["uniform"]
    input: TokenRange
    output: TokenRange


class LognormalLengths(_Lengths):
    """Lognormal input and output."""

    kind: Literal["lognormal"]
    input: LognormalTokens
    output: LognormalTokens
    correlation: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """Correlation of the logarithms."""


Quantiles = dict[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=1)]]
"""Share of requests to tokens, e.g. ``{0: 10, 0.5: 800, 1: 4000}``; straight lines between."""


def _check_quantiles(quantiles: Quantiles) -> Quantiles:
    shares = sorted(quantiles)
    if not shares or shares[0] != 0 or shares[-1] != 1:
        raise ValueError("quantiles must run from 0 to 1")
    if any(quantiles[b] < quantiles[a] for a, b in pairwise(shares)):
        raise ValueError("quantiles must not fall")
    return quantiles


class EmpiricalLengths(_Lengths):
    """Lengths from the user's own data: rows of a file, drawn with replacement, or inline quantiles."""

    kind: Literal["empirical"]
    file: str | None = None
    """CSV with columns input_tokens and output_tokens; a row's two lengths stay together."""
    input: Annotated[Quantiles, AfterValidator(_check_quantiles)] | None = None
    output: Annotated[Quantiles, AfterValidator(_check_quantiles)] | None = None

    @model_validator(mode="after")
    def _file_or_quantiles(self) -> Self:
        if (self.file is None) == (self.input is None) or (self.input is None) != (self.output is None):
            raise ValueError("give either file, or input and output quantiles")
        return self


class BuiltinLengths(_Lengths):
    """Lengths of a built-in model."""

    kind: Literal["builtin"]
    model: BuiltinModel


Lengths = Annotated[
    FixedLengths | UniformLengths | LognormalLengths | EmpiricalLengths | BuiltinLengths,
    Field(discriminator="kind"),
]
