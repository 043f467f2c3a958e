"""Times that no table behind the shipped profiles holds: stated once, marked as assumed wherever used.

- Kernel gaps and graph launch: operator tables time each kernel alone. About 9 kernels a layer and 1 µs between
  kernels of a CUDA graph (0.5 µs between short kernels of one on V100: "Getting Started with CUDA Graphs",
  NVIDIA developer blog, 2019) give 0.3 ms for 32 layers; replaced when a profile is fitted on whole steps.
- ``enforce_eager``: the CPU launches every kernel from Python. vLLM-Omni issue 7960 reports 22 to 23 ms per
  token eager against 13 ms with graphs for a 28-layer 7B model on A800 (weights alone take 7.5 ms there):
  about 5 ms of both is outside the layers, which leaves 0.6 ms a layer. Good to perhaps 40 %.
- Host time per step, front-end times: orders of magnitude from practice (vLLM V1 with async scheduling runs
  sub-1B models at 2 to 3 ms a step, where the GPU is not the limit; fast tokenisers do 0.5 to 1 million
  tokens a second). They show at low load and for small models only.
"""

from __future__ import annotations

from typing import Final

from simulator.step_time.profile import FrontEnd, HostTime

OVERHEAD_US_PER_LAYER: Final = 9.0
OVERHEAD_NOTE: Final = (
    "overhead_us: gaps between kernels and graph launch, assumed (9 kernels a layer at 1 us)"
)

EAGER_FLOOR_US_PER_LAYER: Final = 600.0
EAGER_NOTE: Final = (
    "eager_floor_us: 0.6 ms a layer, assumed from 22 to 23 ms eager against 13 ms with graphs for a 28-layer "
    "7B model on A800 (github.com/vllm-project/vllm-omni issue 7960); good to perhaps 40 %"
)

HETEROGENEITY_NOTE: Final = (
    "decode_attention.heterogeneity: 1.02, assumed (1.0175 was measured on RTX PRO 6000)"
)

LONGEST_CONTEXT_NOTE: Final = (
    "longest_context_ns: what one thread block takes alone, from the prompt of 16,384 tokens, times 0.68 (0.75 beside "
    "prompts); these shares were measured on RTX PRO 6000 and RTX 4090, not on this GPU"
)

HOST: Final = HostTime(
    base_us=1500.0,
    per_request_us=8.0,
    source="host: 1.5 ms + 8 us per scheduled request, assumed (vLLM V1 practice, not measured)",
)

FRONT_END: Final = FrontEnd(
    request_us=3000.0,
    per_prompt_token_us=1.5,
    response_us=1000.0,
    source="front_end: 3 ms + 1.5 us per prompt token in, 1 ms out, assumed (not measured)",
)
