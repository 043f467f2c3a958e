"""Requests that come whether or not earlier ones have been answered, alone or as starts of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, repeat
from typing import Final

import numpy as np

from simulator.scenario.workload import Sessions
from simulator.workload.arrivals import ArrivalProcess, merged_times
from simulator.workload.entry import Entry
from simulator.workload.request import RequestSpec
from simulator.workload.sampling import LengthSampler, count_sampler, time_sampler
from simulator.workload.sessions import Conversation, PrefixGroups

_TURNS_AT_A_TIME = 65_536
_SPEC: Final = partial(tuple.__new__, RequestSpec)


class OpenLoop:
    """Single requests in the entry's arrival order."""

    def __init__(self, entry: Entry, processes: list[ArrivalProcess], lengths: LengthSampler) -> None:
        self._entry = entry
        self._processes = processes
        self._lengths = lengths

    def arrivals(self) -> Iterator[RequestSpec]:
        return chain.from_iterable(self._chunks())

    def _chunks(self) -> Iterator[Iterator[RequestSpec]]:
        entry = self._entry
        cap, priority = entry.config.max_tokens, entry.config.priority
        index = 0
        for times in merged_times(self._processes, entry.draws, entry.purpose("arrivals")):
            count = len(times)
            inputs, outputs = self._lengths(entry.draws.uniforms(entry.purpose("length"), index, count))
            output_list = outputs.tolist()
            ids = range(entry.global_id(index), entry.global_id(index + count))
            yield map(
                _SPEC,  # as RequestSpec._make, without a call of Python for each
                zip(
                    ids,
                    repeat(entry.index),
                    (times + entry.start_ps).tolist(),
                    inputs.tolist(),
                    output_list,
                    output_list if cap == "output" else repeat(cap),
                    repeat(()),
                    repeat(priority),
                    ids,
                    repeat(0),
                    strict=False,
                ),
            )
            index += count

    def after(self, spec: RequestSpec, end_ps: int, succeeded: bool) -> RequestSpec | None:
        return None


class _Plan:
    """What is left of an open-loop session."""

    __slots__ = ("conversation", "first_index", "inputs", "outputs", "think_ps")

    def __init__(
        self,
        conversation: Conversation,
        first_index: int,
        inputs: list[int],
        outputs: list[int],
        think_ps: list[int],
    ) -> None:
        self.conversation = conversation
        self.first_index = first_index
        self.inputs = inputs
        self.outputs = outputs
        self.think_ps = think_ps


class OpenLoopSessions:
    """Sessions that start in the entry's arrival order; later turns follow the answers.

    Turns are numbered over the sessions in order of their starts, whether they take place or not, so a
    turn's draws do not depend on what happened to other requests.
    """

    def __init__(
        self,
        entry: Entry,
        sessions: Sessions,
        processes: list[ArrivalProcess],
        lengths: LengthSampler,
    ) -> None:
        self._entry = entry
        self._sessions = sessions
        self._processes = processes
        self._lengths = lengths
        self._turns = count_sampler(sessions.turns)
        self._think = time_sampler(sessions.think_time)
        self._groups = PrefixGroups(sessions)
        self._live: dict[int, _Plan] = {}

    def arrivals(self) -> Iterator[RequestSpec]:
        entry = self._entry
        session = turns_before = 0
        for times in merged_times(self._processes, entry.draws, entry.purpose("arrivals")):
            words = entry.draws.uniforms(entry.purpose("session"), session, len(times))
            turns = self._turns(words[:, 0])
            tenants, system_tokens = self._groups.pick(words[:, 1], words[:, 2])
            ends = np.cumsum(turns)
            done = 0
            while done < len(times):
                base = int(ends[done - 1]) if done else 0
                stop = max(done + 1, int(np.searchsorted(ends, base + _TURNS_AT_A_TIME, side="right")))
                part = slice(done, stop)
                starts = zip(
                    times[part].tolist(),
                    turns[part].tolist(),
                    tenants[part].tolist(),
                    system_tokens[part].tolist(),
                    strict=True,
                )
                yield from self._start(session + done, turns_before + base, list(starts))
                done = stop
            session += len(times)
            turns_before += int(ends[-1]) if len(ends) else 0

    def _start(
        self, session: int, first_turn: int, starts: list[tuple[int, int, int, int]]
    ) -> Iterator[RequestSpec]:
        """First turns of sessions given as (time, turns, tenant, tokens of the system prompt)."""
        entry = self._entry
        total = sum(turns for _, turns, _, _ in starts)
        words = entry.draws.uniforms(entry.purpose("length"), first_turn, total)
        inputs, outputs = (tokens.tolist() for tokens in self._lengths(words))
        words = entry.draws.uniforms(entry.purpose("think_time"), first_turn, total)
        thinks = self._think(words[:, 0]).tolist()
        begin = 0
        for number, (time, turns, tenant, system_tokens) in enumerate(starts, start=session):
            plan = _Plan(
                Conversation(entry, number, tenant, system_tokens, self._sessions.max_prompt_tokens),
                first_turn + begin,
                inputs[begin : begin + turns],
                outputs[begin : begin + turns],
                thinks[begin : begin + turns],
            )
            begin += turns
            spec = self._turn(plan, entry.start_ps + time)
            if spec is not None:
                if turns > 1:
                    self._live[spec.session_id] = plan
                yield spec

    def _turn(self, plan: _Plan, arrival_ps: int) -> RequestSpec | None:
        turn = plan.conversation.turn
        return plan.conversation.next_turn(
            plan.first_index + turn, arrival_ps, plan.inputs[turn], plan.outputs[turn]
        )

    def after(self, spec: RequestSpec, end_ps: int, succeeded: bool) -> RequestSpec | None:
        plan = self._live.get(spec.session_id)
        if plan is None:
            return None
        turn = plan.conversation.turn
        if succeeded and turn < len(plan.inputs):
            arrival_ps = end_ps + plan.think_ps[turn]
            if arrival_ps < self._entry.end_ps:
                following = self._turn(plan, arrival_ps)
                if following is not None:
                    return following
        del self._live[spec.session_id]
        return None
