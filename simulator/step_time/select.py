"""Which step times a run uses: a shipped profile that matches, one that the user names, or the roofline.

Nothing is chosen silently: the result says what it is, how far it is to be trusted, and why it was taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from simulator.catalog import Model, ModelShape, canonical_dtype, find_gpu, find_model
from simulator.draws import Draws
from simulator.step_time.perturb import perturbed
from simulator.step_time.profile import FrontEnd, KvCacheRecord, ProfileError, StepTimeProfile, load_profile
from simulator.step_time.roofline import roofline_profile
from simulator.step_time.tables import ProfileStepTime

_PREFERENCE: Final = ("fitted profile", "composed from kernels", "roofline")


@dataclass(frozen=True)
class ResolvedStepTime:
    """Step times of one replica and what is to be said of them.

    Attributes:
        step_time: the `StepTime`; its ``range_violations`` count steps outside the fitted range.
        profile: the profile behind it.
        reason: why this profile, in a sentence for the report.
    """

    step_time: ProfileStepTime
    profile: StepTimeProfile
    reason: str

    def drawn(self, draws: Draws, draw: int) -> ResolvedStepTime:
        """The same with coefficients drawn within their uncertainty (`perturbed`).

        Raises:
            ProfileError: nothing is known of the profile's error.
        """
        profile = perturbed(self.profile, draws, draw)
        return ResolvedStepTime(self.step_time.with_profile(profile), profile, self.reason)

    @property
    def source(self) -> str:
        """``fitted profile``, ``composed from kernels`` or ``roofline``."""
        return self.profile.source

    @property
    def known_error(self) -> str:
        """How far the times are to be trusted."""
        return self.profile.known_error

    @property
    def kv_cache(self) -> KvCacheRecord | None:
        """The recorded number of KV blocks with its flags; pass it to ``num_kv_blocks(recorded=...)``."""
        return self.profile.kv_cache

    @property
    def num_kv_blocks(self) -> int | None:
        """The recorded number of KV blocks, valid for the flags in `kv_cache` only."""
        return None if self.profile.kv_cache is None else self.profile.kv_cache.num_blocks

    @property
    def frontend(self) -> FrontEnd:
        """Times outside the engine core."""
        return self.profile.front_end

    @property
    def provenance(self) -> dict[str, Any]:
        """Records behind the profile."""
        return {
            "profile": self.profile.name,
            "source": self.source,
            "known_error": self.known_error,
            "reason": self.reason,
            "assumptions": list(self.profile.assumptions),
            **self.profile.provenance,
        }


@cache
def shipped_names() -> tuple[str, ...]:
    """Names of the profiles that ship with the package; each begins with its GPU's id in lower case."""
    folder = resources.files(__package__).joinpath("profiles")
    return tuple(sorted(e.name.removesuffix(".yaml") for e in folder.iterdir() if e.name.endswith(".yaml")))


@cache
def _shipped(name: str) -> StepTimeProfile:
    file = resources.files(__package__).joinpath("profiles", f"{name}.yaml")
    with resources.as_file(file) as path:
        return load_profile(path)


def shipped_profiles(gpu: str = "") -> dict[str, StepTimeProfile]:
    """Profiles that ship with the package, by name; those of one GPU id, or all."""
    prefix = f"{gpu}--".lower() if gpu else ""
    return {name: _shipped(name) for name in shipped_names() if name.startswith(prefix)}


def _same_times(a: ModelShape, b: ModelShape) -> bool:
    """Whether two shapes cost the same: all but the context limit."""
    return a.model_copy(update={"max_position_embeddings": b.max_position_embeddings}) == b


class _Deployment(NamedTuple):
    """What step times are asked for; ``gpu`` is an id."""

    gpu: str
    model: Model
    tp: int
    dtype: str
    kv_cache_dtype: str


def _mismatch(profile: StepTimeProfile, asked: _Deployment) -> str | None:
    """Why a profile does not describe this deployment; None if it does."""
    identity = profile.identity
    gpu, model, tp, dtype, cache = asked
    if identity.gpu != gpu:
        return f"it is of {identity.gpu}, not {gpu}"
    if not _same_times(identity.shape, model.shape):
        return f"it is of {identity.model}, whose shape is not that of {model.name}"
    if identity.tp != tp:
        return f"it is of tensor-parallel degree {identity.tp}, not {tp}"
    if identity.dtype != dtype or identity.kv_cache_dtype != cache:
        return (
            f"it is of {identity.dtype} weights and {identity.kv_cache_dtype} KV cache, "
            f"not {dtype} and {cache}"
        )
    return None


def _named(name: str) -> StepTimeProfile:
    if name in shipped_names():
        return _shipped(name)
    path = Path(name)
    if path.is_file():
        return load_profile(path)
    raise ProfileError(
        f"profile {name!r} is neither a file nor one that ships with the simulator; there are: "
        f"auto, roofline, {', '.join(shipped_names())}"
    )


def _asked(gpu: str, model: Model, tp: int, dtype: str, kv_cache_dtype: str) -> _Deployment:
    dtype = canonical_dtype(dtype)
    dtype = "bfloat16" if dtype == "float16" else dtype  # the same kernels at the same rate
    cache = "bfloat16" if kv_cache_dtype in ("auto", "float16") else canonical_dtype(kv_cache_dtype)
    return _Deployment(gpu, model, tp, dtype, cache)


def best_shipped(
    gpu: str, model: Model, tp: int = 1, dtype: str = "bfloat16", kv_cache_dtype: str = "auto"
) -> StepTimeProfile | None:
    """The best shipped profile that matches, of a GPU id or of ``CPU``; None if there is none.

    Raises:
        CatalogError: unknown dtype.
    """
    return _best(_asked(gpu, model, tp, dtype, kv_cache_dtype))


def _best(asked: _Deployment) -> StepTimeProfile | None:
    matches = [
        candidate for candidate in shipped_profiles(asked.gpu).values() if _mismatch(candidate, asked) is None
    ]
    return min(
        matches, key=lambda candidate: (_PREFERENCE.index(candidate.source), candidate.name), default=None
    )


def load_step_time(
    gpu: str,
    model: str | Model,
    tp: int = 1,
    dtype: str = "bfloat16",
    enforce_eager: bool = False,
    *,
    profile: str = "auto",
    kv_cache_dtype: str = "auto",
    max_num_seqs: int = 256,
    max_num_batched_tokens: int = 2048,
) -> ResolvedStepTime:
    """Step times of a deployment.

    Args:
        gpu: GPU id of the catalog.
        model: Hugging Face name, path of a ``config.json``, or a `Model`.
        tp: tensor-parallel degree.
        dtype: of the weights: vLLM's name, or ``fp8`` for weights quantised so.
        enforce_eager: vLLM's flag.
        profile: ``auto`` (the best shipped profile that matches, else the roofline), ``roofline``, the name
            of a shipped profile, or the path of a profile file.
        kv_cache_dtype: vLLM's flag; ``auto`` is 16 bits.
        max_num_seqs: vLLM's flag; sets the captured CUDA-graph sizes.
        max_num_batched_tokens: vLLM's flag.

    Raises:
        CatalogError: unknown GPU, model or dtype.
        ProfileError: the named profile does not exist, is broken, or is of something else.
    """
    found_gpu = find_gpu(gpu)
    found_model = model if isinstance(model, Model) else find_model(model)
    asked = _asked(found_gpu.id, found_model, tp, dtype, kv_cache_dtype)
    if profile in ("auto", "roofline"):
        best = _best(asked) if profile == "auto" else None
        what = f"{found_gpu.id}, {found_model.name}, tp {tp}, {asked.dtype}"
        if best is not None:
            chosen, reason = best, f"the best shipped profile for {what}"
        else:
            chosen = roofline_profile(
                found_gpu, found_model, dtype=asked.dtype, kv_cache_dtype=asked.kv_cache_dtype, tp=tp
            )
            reason = (
                "the scenario asks for the roofline"
                if profile == "roofline"
                else f"no shipped profile is of {what}"
            )
    else:
        chosen = _named(profile)
        wrong = _mismatch(chosen, asked)
        if wrong is not None:
            raise ProfileError(f"profile {profile!r} does not fit this deployment: {wrong}")
        reason = "named in the scenario"
    step_time = ProfileStepTime(
        chosen,
        enforce_eager=enforce_eager,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
    )
    return ResolvedStepTime(step_time=step_time, profile=chosen, reason=reason)
