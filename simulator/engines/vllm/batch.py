"""One step's batch: what the scheduler decided and what the engine knows of its run."""

from __future__ import annotations

from simulator.engines.vllm.request import Request


class Plan:
    """What a call of ``schedule`` has decided so far.

    Attributes:
        scheduled: tokens of each scheduled request, in order.
        drafts, padded, admitted, preempted: see `Batch`.
        skipped: waiting requests that admission passed over, in order.
    """

    __slots__ = ("admitted", "drafts", "padded", "preempted", "scheduled", "skipped")

    def __init__(self) -> None:
        self.scheduled: dict[Request, int] = {}
        self.drafts: dict[Request, int] = {}
        self.padded: list[Request] = []
        self.admitted: list[Request] = []
        self.preempted: list[Request] = []
        self.skipped: list[Request] = []


class Batch:
    """What one call of ``schedule`` decided.

    Attributes:
        requests: scheduled requests in order.
        num_scheduled_tokens: tokens of each; None if each has one.
        samples: whether each one's output is a token; None if every one's is.
        decode_requests: requests that compute one token behind a full context.
        decode_context_tokens: the contexts of those before the step, summed.
        longest_context_tokens: the longest of them.
        prefills: (tokens, context before the step) of all others.
        drafts: draft tokens among the scheduled ones, of requests that have some.
        padded: requests whose drafts are only padding, of which none is accepted.
        num_checked_drafts: drafts of the requests that gave a token, padding included.
        num_accepted_drafts: drafts that became output. Both are known once the batch was processed.
        admitted: requests admitted by this step.
        preempted: requests preempted by this step, in order.
        all_decode: whether the output may be processed as that of a decode step whose requests are all the
            requests of the batch before, none of which has left since.
        start_ps, gpu_ps, end_ps: set by the engine.
    """

    __slots__ = (
        "admitted",
        "all_decode",
        "decode_context_tokens",
        "decode_requests",
        "drafts",
        "end_ps",
        "gpu_ps",
        "longest_context_tokens",
        "num_accepted_drafts",
        "num_checked_drafts",
        "num_scheduled_tokens",
        "padded",
        "preempted",
        "prefills",
        "requests",
        "samples",
        "start_ps",
    )

    def __init__(self, requests: list[Request], all_decode: bool) -> None:
        self.requests = requests
        self.num_scheduled_tokens: list[int] | None = None
        self.samples: list[bool] | None = None
        self.decode_requests = 0
        self.decode_context_tokens = 0
        self.longest_context_tokens = 0
        self.prefills: list[tuple[int, int]] | tuple[()] = ()
        self.drafts: dict[Request, int] = {}
        self.padded: list[Request] | tuple[()] = ()
        self.num_checked_drafts = 0
        self.num_accepted_drafts = 0
        self.admitted: list[Request] | tuple[()] = ()
        self.preempted: list[Request] | tuple[()] = ()
        self.all_decode = all_decode
        self.start_ps = 0
        self.gpu_ps = 0
        self.end_ps = 0

    def compute(self, plan: Plan) -> tuple[int, int]:
        """Take a plan over and count its tokens as computed.

        Returns:
            All contexts after the step, summed, and the longest of them.
        """
        self.drafts = plan.drafts
        self.padded = plan.padded
        self.admitted = plan.admitted
        self.preempted = plan.preempted
        samples: list[bool] = []
        prefills: list[tuple[int, int]] = []
        context_after = longest_after = longest = 0
        for request, num_new in plan.scheduled.items():
            before = request.num_computed_tokens
            after = before + num_new
            request.num_computed_tokens = after
            context_after += after
            longest_after = max(longest_after, after)
            samples_token = after >= request.num_tokens
            samples.append(samples_token)
            request.in_prefill = not samples_token
            if samples_token and num_new == 1:
                self.decode_requests += 1
                self.decode_context_tokens += before
                longest = max(longest, before)
            else:
                prefills.append((num_new, before))
        self.num_scheduled_tokens = list(plan.scheduled.values())
        self.samples = samples
        self.prefills = prefills
        self.longest_context_tokens = longest
        return context_after, longest_after

    @property
    def decode_spread_tokens(self) -> int:
        """By how much all decoding contexts being as long as the longest would exceed their sum."""
        return self.decode_requests * self.longest_context_tokens - self.decode_context_tokens
