"""Arguments of ``vllm serve`` that `simulator.scenario.vllm_config` knows but does not read.

The names are those of the argument parser of vLLM 0.32.0 (``vllm/entrypoints/cli/serve.py``), without the
ones that the reader gives a type, and without their ``no-`` forms.
"""

from __future__ import annotations

from typing import Final

WITHOUT_EFFECT: Final = frozenset(
    """
additional-config aggregate-engine-logging all2all-backend allow-credentials allow-deprecated-quantization
allowed-headers allowed-local-media-path allowed-media-domains allowed-methods allowed-origins
anthropic-disabled-thinking-effort api-key api-server-count attention-backend attention-config
aux-output-config chat-template chat-template-content-format code-revision cohere-format
cohere-is-reasoning-model collect-detailed-traces compilation-config config-format convert
cp-kv-cache-interleave-size cpu-distributed-timeout-seconds cpu-offload-gb cpu-offload-params
cudagraph-capture-sizes cudagraph-metrics custom-histogram-buckets data-parallel-address
data-parallel-backend data-parallel-external-lb data-parallel-hybrid-lb
data-parallel-multi-port-external-lb data-parallel-rank data-parallel-rpc-port data-parallel-size-local
data-parallel-start-rank data-parallel-supervisor-port dbo-decode-token-threshold
dbo-prefill-token-threshold dcp-comm-backend dcp-kv-cache-interleave-size dcp-q-replicate
decode-context-parallel-size default-chat-template-kwargs default-mm-loras device-ids diffusion-config
disable-access-log-for-endpoints disable-cascade-attn disable-chunked-mm-input disable-custom-all-reduce
disable-fastapi-docs disable-hybrid-kv-cache-manager disable-log-stats disable-nccl-for-dp-synchronization
disable-sliding-window disable-uvicorn-access-log distributed-executor-backend distributed-timeout-seconds
download-dir dp-supervisor-probe-failure-threshold dp-supervisor-probe-interval-s
dp-supervisor-probe-timeout-s dp-sync-interval ec-manager-config ec-transfer-config elastic-ep-max-dp-size
enable-auto-tool-choice enable-batch-sharded-sampling enable-cumem-allocator enable-dbo enable-elastic-ep
enable-ep-weight-filter enable-eplb enable-expert-parallel enable-fault-tolerance
enable-flash-late-interaction enable-flashinfer-autotune enable-force-include-usage enable-hc-sp
enable-layerwise-nvtx-tracing enable-log-deltas enable-log-outputs enable-log-requests
enable-logging-iteration-details enable-lora enable-mamba-cache-stochastic-rounding
enable-mamba-shared-prefix-checkpoint enable-mfu-metrics enable-mixed-moe-lora-format enable-mm-embeds
enable-moe-shared-loras enable-nccl-comm-suspend enable-offline-docs enable-per-request-metrics
enable-prompt-embeds enable-prompt-tokens-details enable-request-id-headers enable-return-routed-experts
enable-scale-out enable-server-load-tracking enable-shm-tensor-arena enable-sleep-mode enable-ssl-refresh
enable-tokenizer-info-endpoint enable-tower-connector-lora enable-trace-replay engram-config eplb-config
exclude-tools-when-tool-choice-none expert-placement-strategy fail-on-environ-validation
fault-tolerance-config fingerprint-mode fingerprint-value fully-sharded-loras gdn-prefill-backend
generation-config grpc grpc-port h11-max-header-count h11-max-incomplete-event-size headless
hf-config-path hf-overrides hf-token ignore-patterns interleave-mm-strings io-processor-plugin
ir-op-priority jit-monitor-mode jit-monitor-verbose kda-decode-backend kda-prefill-backend kernel-config
kv-cache-dtype-skip-layers kv-cache-metrics kv-cache-metrics-sample kv-events-config kv-offloading-backend
kv-offloading-size kv-sharing-fast-prefill kv-transfer-config language-model-only limit-mm-per-prompt
linear-backend log-config-file log-error-stack log-level logging-config logits-processors logprobs-mode
lora-dtype lora-modules lora-target-modules mamba-backend mamba-block-size mamba-cache-dtype
mamba-cache-mode mamba-cache-philox-rounds mamba-ssm-cache-dtype mamba-ssu-algorithm master-addr
master-port max-cpu-loras max-cudagraph-capture-size max-log-len max-logprobs max-lora-cls-labels
max-lora-rank max-loras max-num-scheduled-tokens max-parallel-loading-workers media-io-kwargs middleware
mm-device-do-normalize mm-encoder-attn-backend mm-encoder-attn-dtype mm-encoder-fp8-scale-path
mm-encoder-fp8-scale-save-margin mm-encoder-fp8-scale-save-path mm-encoder-only mm-encoder-tp-mode
mm-hasher-algorithm mm-ipc-gpu-memory-gb mm-processor-cache-gb mm-processor-cache-type mm-processor-device
mm-processor-kwargs mm-shm-cache-max-object-size-mb mm-tensor-ipc model-class-overrides model-impl
model-loader-extra-config moe-backend nnodes node-rank numa-bind numa-bind-cpus numa-bind-nodes
offload-backend offload-group-size offload-num-in-group offload-params offload-prefetch-step
otlp-traces-endpoint override-generation-config per-request-spec-decode-metrics pooler-config
prefill-context-parallel-size prefill-schedule-interval prefix-cache-retention-interval
prefix-caching-hash-algo prefix-match-unit profiler-config pt-load-map-location quantization-config
ray-workers-use-nsight reasoning-config reasoning-parser reasoning-parser-plugin renderer-num-workers
replayssm-buffer-len response-role return-sampling-mask return-tokens-as-token-ids root-path runner
safetensors-load-strategy safetensors-prefetch-block-size safetensors-prefetch-num-threads scheduler-cls
seed show-hidden-metrics-for-version skip-mm-profiling skip-tokenizer-init sleep-mode-offload-cudagraph
sleep-preserve-parameter-names sparse-indexer-topk-backend spec-method spec-model spec-tokens
specialize-active-lora speculative-config sse-keep-alive-interval ssl-ca-certs ssl-cert-reqs ssl-certfile
ssl-ciphers ssl-keyfile stream-interval structured-outputs-config swa-bounded-replay tokenizer
tokenizer-mode tokenizer-revision tokens-only tool-call-parser tool-parser-plugin tool-server
tool-strict-level trust-remote-code trust-request-chat-template trust-request-mm-kwargs ubatch-size uds
use-fp64-gumbel use-replayssm use-tqdm-on-load uvicorn-log-level video-pruning-method video-pruning-rate
watermark-config weight-transfer-config worker-cls worker-extension-cls
""".split()  # noqa: SIM905  (a list of 300 quoted strings is harder to read)
)
"""Accepted silently, unless `NOT_MODELLED` names them."""

NOT_MODELLED: Final = {
    "cpu-offload-gb": "weights offloaded to the CPU",
    "decode-context-parallel-size": "decode context parallelism",
    "enable-dbo": "dual batch overlap",
    "enable-expert-parallel": "expert parallelism",
    "enable-lora": "LoRA adapters",
    "kv-offloading-size": "KV offloading",
    "kv-transfer-config": "KV transfer",
    "max-num-scheduled-tokens": "a scheduling budget below max-num-batched-tokens",
    "prefill-context-parallel-size": "prefill context parallelism",
    "prefill-schedule-interval": "data-parallel prefill balancing",
    "scheduler-cls": "a scheduler class of one's own",
    "spec-tokens": "speculative decoding",
    "speculative-config": "speculative decoding",
    "stream-interval": "tokens streamed in bundles",
}
"""Accepted with a note: they change timing, and the model leaves them out."""

REMOVED: Final = {
    "disable-async-output-proc": "removed from vLLM",
    "disable-frontend-multiprocessing": "removed from vLLM",
    "disable-log-requests": "removed from vLLM, whose default it is now; no effect",
    "enable-chunked-context": "removed from vLLM",
    "engine-use-ray": "removed from vLLM",
    "guided-decoding-backend": "now part of structured-outputs-config; no effect on timing here",
    "max-context-len-to-capture": "removed from vLLM",
    "max-long-partial-prefills": "removed from vLLM",
    "max-num-partial-prefills": "removed from vLLM",
    "max-seq-len-to-capture": "removed from vLLM",
    "multi-step-stream-outputs": "removed from vLLM",
    "ngram-prompt-lookup-max": "removed from vLLM",
    "ngram-prompt-lookup-min": "removed from vLLM",
    "num-lookahead-slots": "removed from vLLM",
    "num-scheduler-steps": "removed from vLLM: multi-step scheduling gave way to async scheduling",
    "num-speculative-tokens": "now part of speculative-config, which is not modelled",
    "preemption-mode": "removed from vLLM: preemption recomputes",
    "rope-scaling": "now part of hf-overrides; no effect on timing here",
    "rope-theta": "now part of hf-overrides; no effect on timing here",
    "scheduler-delay-factor": "removed from vLLM",
    "speculative-model": "now part of speculative-config, which is not modelled",
    "swap-space": "removed from vLLM: preemption recomputes and swaps nothing out; no effect",
    "task": "replaced by runner and convert; no effect on timing here",
    "tokenizer-pool-size": "removed from vLLM",
    "tokenizer-pool-type": "removed from vLLM",
    "use-v2-block-manager": "removed from vLLM",
    "worker-use-ray": "removed from vLLM",
}
"""Accepted with a note: arguments of earlier releases that 0.32 no longer has."""
