"""What targets answer when they are scraped, under the names that real exporters use.

A pod is behind two exporters, which differ in when it has a sample:

- vLLM's API server, from the moment it listens until its process ends. A pod that loads has no vLLM metrics, so
  for an HPA Pods metric it is *missing*. Names as in vLLM 0.33 (v1/metrics/loggers.py); counters start at 0 with
  each process. ``vllm:request_success_total`` is the sum over its finished_reason labels stop and length.
- dcgm-exporter, a DaemonSet on the node. It labels a GPU with the pod that the kubelet has allocated it to, which
  happens when the pod is bound; so a pod that loads *has* a sample, with a utilisation of 0 and no memory in use.
  A GPU-utilisation autoscaler thus sees idle pods where a queue-length autoscaler sees missing ones.

kube-state-metrics counts a pod's restarts from when a kubelet has taken it, as long as the pod is there.

The gateway answers under the names of the Gateway API Inference Extension's endpoint picker.

``DCGM_FI_DEV_GPU_UTIL`` here is the busy share between two scrapes in whole per cent. The real field covers the
last second or less; the share has the same mean and less noise. Power and temperature are our estimates from it: of
the board's maximum 20 % when idle and 80 % when busy, 35 and 70 degrees Celsius, without thermal inertia; while a
thermal fault goes on the temperature is the fault's.

A thermal fault also lowers ``DCGM_FI_DEV_SM_CLOCK``, from the maximum boost clock by the fault's factor, and sets the
thermal bits of ``DCGM_FI_DEV_CLOCKS_EVENT_REASONS`` (before DCGM 3.3 ``DCGM_FI_DEV_CLOCK_THROTTLE_REASONS``). The bits
are NVML's (nvml.h, nvmlClocksEventReasons): hardware slowdown lowers the clocks to half or less, software slowdown by
less. That idle GPUs lower their clocks too, and power caps, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from simulator.autoscaling.latencies import HISTOGRAM_SERIES, Latencies

if TYPE_CHECKING:
    from simulator.clients.client import Client
    from simulator.cluster.pods import Pod
    from simulator.engines.protocol import EngineSnapshot
    from simulator.gateway.gateway import Gateway

NUM_REQUESTS_WAITING: Final = "vllm:num_requests_waiting"
NUM_REQUESTS_RUNNING: Final = "vllm:num_requests_running"
KV_CACHE_USAGE: Final = "vllm:kv_cache_usage_perc"
GPU_UTILIZATION: Final = "DCGM_FI_DEV_GPU_UTIL"
GPU_MEMORY_USED: Final = "DCGM_FI_DEV_FB_USED"

GPU_TEMPERATURE: Final = "DCGM_FI_DEV_GPU_TEMP"
GPU_POWER: Final = "DCGM_FI_DEV_POWER_USAGE"
SM_CLOCK: Final = "DCGM_FI_DEV_SM_CLOCK"
CLOCKS_EVENT_REASONS: Final = "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"
CLOCK_THROTTLE_REASONS: Final = "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"
CONTAINER_RESTARTS: Final = "kube_pod_container_status_restarts_total"

HW_SLOWDOWN: Final = 0x8
SW_THERMAL_SLOWDOWN: Final = 0x20
HW_THERMAL_SLOWDOWN: Final = 0x40

POD_METRICS: Final = (
    NUM_REQUESTS_WAITING,
    NUM_REQUESTS_RUNNING,
    KV_CACHE_USAGE,
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:num_preemptions_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    GPU_UTILIZATION,
    GPU_MEMORY_USED,
    GPU_TEMPERATURE,
    GPU_POWER,
    SM_CLOCK,
    CLOCKS_EVENT_REASONS,
    CLOCK_THROTTLE_REASONS,
    CONTAINER_RESTARTS,
    *HISTOGRAM_SERIES,
)
"""Names of the metrics that a pod has, as their exporters spell them. DCGM's memory is in MiB, power in W, clocks in
MHz."""

GATEWAY: Final = "gateway"
"""Name of the gateway among the targets."""
GATEWAY_QUEUE: Final = "inference_extension_flow_control_queue_size"
GATEWAY_RUNNING: Final = "inference_objective_running_requests"
GATEWAY_REQUESTS: Final = "inference_objective_request_total"

GATEWAY_METRICS: Final = (GATEWAY_QUEUE, GATEWAY_RUNNING, GATEWAY_REQUESTS)
"""Requests that it holds, requests that it has sent and that have not ended, requests that have come."""

EXPORTED: Final = (*POD_METRICS, *GATEWAY_METRICS)

Values = Mapping[str, float]


def clocks_event_reasons(throttling: Fraction) -> int:
    """The bits that are set on a GPU whose clocks are this factor lower than they should be."""
    if throttling <= 1:
        return 0
    return HW_SLOWDOWN | HW_THERMAL_SLOWDOWN if throttling >= 2 else SW_THERMAL_SLOWDOWN


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU of a pod.

    Attributes:
        memory_used_bytes: device memory that a running vLLM holds.
        tdp_w: the board's maximum power.
        sm_clock_mhz: maximum boost clock of the SMs.
    """

    memory_used_bytes: int = 0
    tdp_w: float = 0.0
    sm_clock_mhz: float = 0.0


@dataclass(frozen=True, slots=True)
class PodExporters:
    """The exporters of a pod.

    Attributes:
        gpu_of: the GPU that a pod which is bound to a node runs on.
        latencies: vLLM's latency histograms.
        wanted: names that somebody reads; symptoms of faults are only worked out if they are among them.
    """

    gpu_of: Callable[[Pod], GpuFacts] = lambda _: GpuFacts()
    latencies: Latencies = field(default_factory=Latencies)
    wanted: set[str] = field(default_factory=set)

    def read(self, pod: Pod, window_ps: int, busy_before_ps: int) -> tuple[Values, int]:
        """What a scrape of a pod finds, and the engine's busy time so far.

        Args:
            pod: the pod.
            window_ps: time since the scrape before.
            busy_before_ps: busy time then.
        """
        node = pod.node
        if node is None or node.gone_ps is not None:
            return self._kube_state(pod), 0
        replica = pod.replica
        if replica is None or not replica.alive or not replica.listening:
            return self._gpu(pod, 0, running=False), 0
        state: EngineSnapshot = replica.peek()
        counters = state.counters
        busy_ps = counters.busy_ps
        # A restarted process has worked less than the one before.
        since_ps = busy_ps - busy_before_ps if busy_ps >= busy_before_ps else busy_ps
        percent = min(100, 100 * since_ps // window_ps) if window_ps else 0
        values = {
            NUM_REQUESTS_WAITING: float(state.waiting),
            NUM_REQUESTS_RUNNING: float(state.running),
            KV_CACHE_USAGE: state.kv_blocks_used / state.kv_blocks_total,
            "vllm:prompt_tokens_total": float(counters.prompt_tokens),
            "vllm:generation_tokens_total": float(counters.generation_tokens),
            "vllm:request_success_total": float(counters.requests_finished),
            "vllm:num_preemptions_total": float(counters.num_preemptions),
            "vllm:prefix_cache_queries_total": float(counters.prefix_cache_queries),
            "vllm:prefix_cache_hits_total": float(counters.prefix_cache_hits),
            **self._gpu(pod, percent, running=True),
        }
        if self.latencies.wanted:
            self.latencies.write(pod.name, values, state.time_ps)
        return values, busy_ps

    def _gpu(self, pod: Pod, percent: int, *, running: bool) -> Values:
        gpu, busy, wanted = self.gpu_of(pod), percent / 100, self.wanted
        hot_c = pod.gpu_temperature_c
        values = {
            GPU_UTILIZATION: float(percent),
            GPU_MEMORY_USED: float(gpu.memory_used_bytes // 2**20) if running else 0.0,
            GPU_TEMPERATURE: 35.0 + 35.0 * busy if hot_c is None else hot_c,
            GPU_POWER: gpu.tdp_w * (0.2 + 0.6 * busy),
            **self._kube_state(pod),
        }
        if SM_CLOCK in wanted:
            values[SM_CLOCK] = gpu.sm_clock_mhz / float(pod.throttling)
        for name in (CLOCKS_EVENT_REASONS, CLOCK_THROTTLE_REASONS):
            if name in wanted:
                values[name] = float(clocks_event_reasons(pod.throttling))
        return values

    def _kube_state(self, pod: Pod) -> Values:
        if CONTAINER_RESTARTS not in self.wanted or pod.start_ps is None:
            return {}
        return {CONTAINER_RESTARTS: float(pod.restarts)}


def gateway_exporter(gateway: Gateway, client: Client) -> Callable[[], Values]:
    """What a scrape of the gateway finds; requests are attempts, as a gateway cannot tell a retry."""

    def read() -> Values:
        return {
            GATEWAY_QUEUE: float(gateway.queue_length),
            GATEWAY_RUNNING: float(sum(gateway.outstanding().values())),
            GATEWAY_REQUESTS: float(client.totals.attempts),
        }

    return read
