"""Numbers and sentences as people read them, for the console and the HTML alike."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

CAUSES = {
    "context_length": "prompt + max_tokens over the model's context (400)",
    "gateway_queue_full": "gateway queue full (429)",
    "gateway_queue_timeout": "no replica took it in time (503)",
    "engine_queue_full": "engine queue full (503)",
    "cut_spot_reclaim": "stream cut by a spot reclaim",
    "cut_termination": "stream cut by a stopped pod (scale-down, rollout)",
    "cut_failure": "stream cut by a crashed pod",
    "cut_partition": "stream cut by a network partition",
    "unreachable": "pod unreachable (503)",
    "timeout_ttft": "client timeout: first token",
    "timeout_attempt": "client timeout: attempt",
    "timeout_request": "client timeout: whole request",
    "fallback_error": "the fallback API failed too",
}
SHORT_CAUSES = {
    "context_length": "over the context",
    "gateway_queue_full": "gateway queue full",
    "gateway_queue_timeout": "gateway queue wait",
    "engine_queue_full": "engine queue full",
    "cut_spot_reclaim": "cut: spot reclaim",
    "cut_termination": "cut: pod stopped",
    "cut_failure": "cut: pod crashed",
    "cut_partition": "cut: network partition",
    "unreachable": "pod unreachable",
    "timeout_ttft": "timeout: TTFT",
    "timeout_attempt": "timeout: attempt",
    "timeout_request": "timeout: request",
    "fallback_error": "fallback failed",
}
OUTCOMES = {
    "completed": "completed",
    "fell_back": "fell back to the paid API",
    "timed_out": "timed out",
    "rejected": "rejected",
    "failed": "failed",
    "in_flight": "in flight at the end",
}
COST_LINES = {
    "serving": "ready pods",
    "starting": "starting",
    "idle": "idle",
    "terminating": "terminating",
    "rounding": "billed beyond use",
    "unused_commitment": "unused commitment",
    "node_overhead": "node overhead",
    "fallback_api": "fallback API",
}
LATENCIES = {
    "ttft_s": ("TTFT", "time to first token"),
    "tpot_s": ("TPOT", "time per output token after the first, per request"),
    "itl_s": ("ITL", "inter-token latency, pooled over all tokens"),
    "e2e_s": ("E2E", "first send to last token"),
    "queue_s": ("Queue", "waiting in the engine before the first schedule"),
}
STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")
DASH = "–"


def _decimals(value: float, digits: int = 3) -> int:
    """Decimals that show so many significant digits, none for numbers with more before the point."""
    if value == 0:
        return 0
    exponent = int(f"{value:e}".partition("e")[2])
    return min(9, max(0, digits - 1 - exponent))


def _plus_minus(value: float, half_width: float | None, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text if half_width is None else f"{text} ± {half_width:,.{decimals}f}"


def significant(value: float | None, half_width: float | None = None, digits: int = 3) -> str:
    """A number with that many significant digits, thousands separated, no exponent."""
    if value is None:
        return DASH
    rounded = float(f"{value:.{digits - 1}e}")
    return _plus_minus(rounded, half_width, _decimals(rounded or half_width or 0.0, digits))


def seconds(value: float | None, half_width: float | None = None) -> str:
    """A duration with three significant digits: ``14.2 ms``, ``1.23 s``, ``95.0 s``."""
    if value is None:
        return DASH
    if abs(value) < 0.9995:
        return f"{significant(value * 1e3, None if half_width is None else half_width * 1e3)} ms"
    return f"{significant(value, half_width)} s"


def limit(value: float) -> str:
    """A limit as somebody wrote it: ``2 s``, ``50 ms``."""
    return f"{value * 1e3:g} ms" if value < 1 else f"{value:g} s"


def count(value: float | None, half_width: float | None = None) -> str:
    """A whole number, thousands separated; a mean of counts keeps one decimal."""
    if value is None:
        return DASH
    return _plus_minus(value, half_width, 0 if float(value).is_integer() or abs(value) >= 100 else 1)


def percent(value: float | None, half_width: float | None = None) -> str:
    """A share: ``99.3 %``; close to 0 and 1 with as many decimals as tell it from them."""
    if value is None:
        return DASH
    scaled = value * 100
    if scaled in (0, 100):
        return f"{_plus_minus(scaled, None if half_width is None else half_width * 100, 0)} %"
    decimals = 1
    while 0 < min(scaled, 100 - scaled) < 10**-decimals / 2 and decimals < 4:
        decimals += 1
    return f"{_plus_minus(scaled, None if half_width is None else half_width * 100, decimals)} %"


def usd(value: float | None, half_width: float | None = None) -> str:
    """Dollars: two decimals, none from 10,000 on, more for small ones."""
    if value is None:
        return DASH
    decimals = _decimals(value, 2) if 0 < abs(value) < 0.1 else 2 if abs(value) < 10_000 else 0
    return f"${_plus_minus(value, half_width, decimals)}"


def gibibytes(value: float | None, half_width: float | None = None) -> str:
    """Bytes as GiB."""
    if value is None:
        return DASH
    return f"{_plus_minus(value / 2**30, None if half_width is None else half_width / 2**30, 1)} GiB"


def clock(t_s: float | None) -> str:
    """Simulated time of a run: ``1:02:03``, with days in front when there are any."""
    if t_s is None:
        return DASH
    whole = round(t_s)
    days, rest = divmod(whole, 86_400)
    text = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days} d {text}" if days else text


class Style(Protocol):
    """A function of this module that shows a number, with its interval if there is one."""

    def __call__(self, value: float | None, half_width: float | None = None) -> str: ...


class Figure(NamedTuple):
    """A figure of the summary: its value, and with replications the half-width of its interval."""

    value: float | None
    half_width: float | None

    def show(self, style: Style) -> str:
        """``mean ± half-width``, or the value alone, in a style of this module."""
        return style(self.value, self.half_width)


def figure(summary: dict[str, Any], *path: str) -> Figure:
    """A number of the summary by its keys: the mean over replications, if there are any."""
    combined = summary.get("replications")
    node: Any = combined["figures"] if combined else summary
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        return Figure(node.get("mean"), node.get("half_width"))
    return Figure(node, None)


def verdict(summary: dict[str, Any]) -> tuple[bool, str]:
    """Whether the SLO was met, and the sentence that says so."""
    slo = summary["slo"]
    share = figure(summary, "slo", "good_share").show(percent)
    target = f"{100 * slo['target_share']:g} %"
    combined = summary.get("replications")
    if combined:
        runs = combined["replications"]
        met = round(combined["slo_met_share"] * runs)
        return (
            met == runs,
            f"SLO met in {met} of {runs} replications: {share} of requests good, {target} wanted",
        )
    met = slo["verdict"] == "met"
    return met, f"SLO {slo['verdict']}: {share} of requests good, {target} wanted"


def limits(summary: dict[str, Any]) -> str:
    """The SLO's limits in words."""
    parts = [
        f"{LATENCIES[name][0]} ≤ {limit(value)}"
        for name, value in summary["slo"]["limits"].items()
        if value is not None
    ]
    return "Good means answered" + (f" within {', '.join(parts)}" if parts else "")


def worst(summary: dict[str, Any]) -> str | None:
    """One sentence on the worst moment of the run."""
    moment = summary["worst_moment"]
    if moment is None:
        return None
    return (
        f"Slowest first tokens at {clock(moment['t_s'])} (TTFT p99 {seconds(moment['ttft_p99_s'])}). While they "
        f"waited: up to {significant(moment['arrivals_per_s_when_sent'])} arrivals/s (run's mean "
        f"{significant(moment['arrivals_per_s_mean'])}), up to {count(moment['queued_when_sent'])} queued, "
        f"{moment['replicas_ready_min']} replicas ready at the fewest, {moment['replicas_desired']} wanted at the "
        f"most, KV cache up to {percent(moment['kv_usage_max'])}."
    )


def known_error(summary: dict[str, Any]) -> str:
    """The step times' known error in words."""
    errors = summary["step_time"]["known_error"]
    if not errors:
        return "Error not measured."
    return (
        "Mean error of the fit on held-out rows: "
        + ", ".join(f"{regime} ±{percent(error)}" for regime, error in errors.items())
        + "."
    )


def out_of_range(summary: dict[str, Any]) -> list[str]:
    """A line for each way in which steps left the measured range."""
    return [
        f"{what}: {count(part['steps'])} of {count(summary['step_time']['steps'])} steps ({percent(part['share'])})"
        for what, part in summary["step_time"]["out_of_range"].items()
        if part["steps"]
    ]
