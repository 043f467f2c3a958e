import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engines.protocol import StepTime
from simulator.step_time import ProfileStepTime, StepTimeProfile, shipped_profiles
from simulator.step_time.tables import cudagraph_capture_sizes

NS = 1000
US = 1_000_000


def toy(**changes: object) -> StepTimeProfile:
    """Round numbers, so that sums can be done by hand."""
    terms = {
        "dense": {"tokens": [1, 8, 16, 1024], "us": [100, 100, 200, 1208]},
        "per_sequence": {"sequences": [1, 101], "us": [10, 110]},
        "decode_attention": {
            "requests": [1, 11],
            "base_us": [5, 15],
            "per_context_token_ns": [10, 20],
            "max_context_tokens": 1000,
        },
        "prefill_attention": {
            "chunk_tokens": [16, 512],
            "base_us": [3, 995],
            "per_context_token_ns": [1, 32],
            "launch_us": 3,
            "max_context_tokens": 4096,
        },
        "mixed_attention": {
            "requests": [1, 11],
            "chunk_tokens": [16, 116],
            "base_us": [[1, 101], [11, 111]],
            "per_context_token_ns": [30, 40],
            "max_context_tokens": 1000,
        },
        "overhead_us": 7,
        "eager_floor_us": 500,
        **changes,
    }
    shape = {
        "hidden": 64,
        "layers": 1,
        "heads": 4,
        "kv_heads": 2,
        "intermediate": 128,
        "vocab": 100,
        "max_position_embeddings": 4096,
    }
    return StepTimeProfile.model_validate(
        {
            "name": "toy",
            "source": "fitted profile",
            "known_error": "none",
            "identity": {
                "gpu": "L4",
                "model": "toy",
                "shape": shape,
                "dtype": "bfloat16",
                "kv_cache_dtype": "bfloat16",
                "tp": 1,
                "pp": 1,
                "engine_version": "0",
            },
            "terms": terms,
            "host": {"base_us": 50, "per_request_us": 2, "source": "toy"},
            "front_end": {"request_us": 1, "per_prompt_token_us": 1, "response_us": 1, "source": "toy"},
            "provenance": {},
        }
    )


def test_pure_decode_by_hand_eager_padding_free() -> None:
    step_time: StepTime = ProfileStepTime(toy(eager_floor_us=0), enforce_eager=True)
    # 11 requests, 500 tokens of context: overhead 7, dense 100 + 100 * 3/8, head 20, attention 15 and
    # 20 ns a token.
    assert step_time.step_ps(11, 500, ()) == round((7 + 137.5 + 20 + 15) * US) + 20 * NS * 500


def test_cuda_graphs_pad_the_dense_cost_to_the_captured_size() -> None:
    step_time = ProfileStepTime(toy())
    # 9 to 16 requests pay for 16 tokens; the output head and attention see the real batch.
    assert step_time.step_ps(11, 500, ()) == (7 + 200 + 20 + 15) * US + 20 * NS * 500
    assert step_time.step_ps(9, 0, ()) == (7 + 200 + 18 + 13) * US


def test_eager_has_a_host_bound_floor() -> None:
    eager = ProfileStepTime(toy(), enforce_eager=True)
    assert eager.step_ps(1, 100, ()) == 500 * US + 10 * NS * 100
    # 1,000 tokens are above the floor: nothing changes but the padding.
    assert eager.step_ps(0, 0, [(1000, 0)]) > 500 * US


def test_steps_beyond_the_summed_context_that_was_measured_are_counted() -> None:
    decode = {
        "requests": [1, 11],
        "base_us": [5, 15],
        "per_context_token_ns": [10, 20],
        "max_context_tokens": 1000,
        "max_summed_context_tokens": 3000,
    }
    mixed = {
        "requests": [1, 11],
        "chunk_tokens": [16],
        "base_us": [[0], [0]],
        "per_context_token_ns": [30, 40],
        "max_context_tokens": 1000,
        "max_summed_context_tokens": 2000,
    }
    step_time = ProfileStepTime(toy(decode_attention=decode, mixed_attention=mixed))
    step_time.step_ps(3, 3000, ())
    step_time.step_ps(2, 2000, [(16, 0)])
    assert not any(step_time.range_violations.values())
    step_time.step_ps(4, 3001, ())
    assert step_time.range_violations["context_tokens"] == 1
    step_time.step_ps(4, 2001, [(16, 0)])
    assert step_time.range_violations["context_tokens"] == 2


def test_mixed_step_by_hand() -> None:
    step_time = ProfileStepTime(toy(), enforce_eager=False)
    # 11 decodes with 300 tokens of context; chunks of 16 (alone) and 50 (behind 200 tokens): 77 tokens,
    # padded to 80.
    dense = 200 + (80 - 16) * 1
    chunk_base = 3 + (50 - 16) * 2  # interpolated between 16 and 512
    chunk_slope_ns = 1 + (50 - 16) * 31 / 496
    mixed_base = 11 + (66 - 16)
    expected_ps = (
        (7 + dense + (10 + 12)) * US  # 13 scheduled requests
        + 3 * US  # launch, once
        + 0  # the chunk of 16 costs the launch only
        + 16 * 0
        + (chunk_base - 3) * US
        + round(chunk_slope_ns * NS) * 200
        + mixed_base * US
        + 40 * NS * 300
    )
    assert step_time.step_ps(11, 300, [(16, 0), (50, 200)]) == expected_ps


def test_context_above_the_knee_of_a_mixed_step_costs_more() -> None:
    knee = {
        "requests": [1, 11],
        "chunk_tokens": [16],
        "base_us": [[0], [0]],
        "per_context_token_ns": [30, 40],
        "knee_context_tokens": 500,
        "above_knee_ns": [35, 70],
        "max_context_tokens": 1000,
    }
    step_time = ProfileStepTime(toy(mixed_attention=knee))
    base = step_time.step_ps(11, 0, [(16, 0)])
    assert step_time.step_ps(11, 500, [(16, 0)]) - base == 500 * 40 * NS
    assert step_time.step_ps(11, 600, [(16, 0)]) - base == (500 * 40 + 100 * 70) * NS


def test_heterogeneity_scales_the_context_term() -> None:
    profile = toy()
    decode = profile.terms.decode_attention.model_copy(update={"heterogeneity": 1.5})
    profile = profile.model_copy(
        update={"terms": profile.terms.model_copy(update={"decode_attention": decode})}
    )
    base, per_token, _ = ProfileStepTime(profile).decode_terms(11)
    assert per_token == 30 * NS
    assert base == ProfileStepTime(toy()).decode_terms(11)[0]


def test_the_longest_context_costs_by_what_it_exceeds_the_mean() -> None:
    terms = toy().model_dump()["terms"]
    for part in ("decode_attention", "mixed_attention"):
        terms[part]["longest_context_ns"] = [100.0 * (i + 1) for i in range(len(terms[part]["requests"]))]
    step_time = ProfileStepTime(toy(**{k: terms[k] for k in ("decode_attention", "mixed_attention")}))
    # 11 requests (the last knot of both), one with 400 tokens, the rest with 70: 1,100 in all, a mean of 100.
    spread = 11 * 400 - 1100
    for prefills, part in (((), "decode_attention"), ([(16, 0)], "mixed_attention")):
        excess = step_time.step_ps(11, 1100, prefills, spread) - step_time.step_ps(11, 1100, prefills)
        assert excess == pytest.approx(terms[part]["longest_context_ns"][-1] * NS * (400 - 100), rel=1e-3)


def test_a_chunk_above_the_table_is_two_chunks() -> None:
    step_time = ProfileStepTime(toy(dense={"tokens": [1, 4096], "us": [0, 0]}))
    alone = step_time.step_ps(0, 0, [(512, 0)])
    rest = step_time.step_ps(0, 0, [(88, 512)])
    nothing = step_time.step_ps(0, 0, [(16, 0)])  # overhead, head, launch
    assert step_time.step_ps(0, 0, [(600, 0)]) == alone + rest - nothing


def test_steps_outside_the_fitted_range_are_counted() -> None:
    step_time = ProfileStepTime(toy(), max_num_seqs=4, max_num_batched_tokens=64)
    step_time.step_ps(11, 11_000, ())
    step_time.step_ps(2, 100, [(512, 4096)])
    assert not any(step_time.range_violations.values())
    step_time.step_ps(11, 11_001, ())
    assert step_time.range_violations["context_tokens"] == 1
    step_time.step_ps(12, 0, ())
    step_time.decode_terms(12)
    assert step_time.range_violations["decode_requests"] == 2
    step_time.step_ps(0, 0, [(2000, 0)])
    step_time.step_ps(11, 11_001, [(16, 0)])
    step_time.step_ps(12, 0, [(16, 0)])
    assert step_time.range_violations["context_tokens"] == 2
    assert step_time.range_violations["decode_requests"] == 3
    assert step_time.range_violations["step_tokens"] == step_time.range_violations["prefill_chunk"] == 1


def test_tables_grow_without_changing_what_they_said() -> None:
    small = ProfileStepTime(toy(), max_num_seqs=512, max_num_batched_tokens=2)
    large = ProfileStepTime(toy(), max_num_seqs=512, max_num_batched_tokens=9000)
    for step in [(3, 100, ()), (700, 10, ()), (700, 10, [(5000, 9)]), (3, 100, ()), (1500, 1, [(16, 0)])]:
        assert small.step_ps(*step) == large.step_ps(*step)
    assert small.host_ps(4000) == (50 + 8000) * US


def test_extrapolation_follows_the_upper_half_not_the_last_tread() -> None:
    flat_top = {"tokens": [1, 512, 1000, 1024], "us": [0, 512, 1024, 1024]}
    step_time = ProfileStepTime(toy(dense=flat_top), enforce_eager=True)
    rest = step_time.step_ps(0, 0, [(1024, 0)]) - 1024 * US
    tokens_2048 = step_time._dense_ps[2048]
    assert tokens_2048 == 2048 * US
    assert rest > 0


def test_captured_sizes_are_vllms() -> None:
    sizes = cudagraph_capture_sizes(256)
    assert sizes[:5] == [1, 2, 4, 8, 16]
    assert sizes[-2:] == [496, 512]
    assert len(sizes) == 51
    assert cudagraph_capture_sizes(1024) == sizes
    assert cudagraph_capture_sizes(6) == [1, 2, 4, 8]


PROFILES = sorted(shipped_profiles())


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("eager", [False, True])
@settings(deadline=None)
@given(requests=st.integers(1, 1024), context=st.integers(0, 2_000_000), spread=st.integers(0, 2_000_000))
def test_decode_terms_are_the_step_exactly(
    name: str, eager: bool, requests: int, context: int, spread: int
) -> None:
    step_time = _loaded(name, eager)
    base, per_token, per_spread = step_time.decode_terms(requests)
    assert (
        step_time.step_ps(requests, context, (), spread) == base + per_token * context + per_spread * spread
    )


@pytest.mark.parametrize("name", PROFILES)
@given(
    requests=st.integers(0, 300),
    context=st.integers(0, 300_000),
    chunks=st.lists(st.tuples(st.integers(1, 2048), st.integers(0, 16_000)), max_size=4),
)
def test_steps_are_positive_integers_and_rise_with_context(
    name: str, requests: int, context: int, chunks: list[tuple[int, int]]
) -> None:
    step_time = _loaded(name, False)
    if not requests and not chunks:
        assert step_time.step_ps(0, 0, ()) == 0
        return
    now = step_time.step_ps(requests, context, chunks)
    assert isinstance(now, int)
    assert now > 0
    assert step_time.step_ps(requests, context + 1000, chunks) >= now
    longer = [(tokens, before + 100) for tokens, before in chunks]
    assert step_time.step_ps(requests, context, longer) >= now


_CACHE: dict[tuple[str, bool], ProfileStepTime] = {}


def _loaded(name: str, eager: bool) -> ProfileStepTime:
    key = (name, eager)
    if key not in _CACHE:
        _CACHE[key] = ProfileStepTime(shipped_profiles()[name], enforce_eager=eager)
    return _CACHE[key]
