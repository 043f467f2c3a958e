"""Conversations: prompts that grow turn by turn, and system prompts that groups of sessions share.

Turn k's prompt is the system prompt, every earlier user message and answer, and the new user message. The
whole conversation is one content (`ContentSegments`), so a turn finds the blocks of the turn before it, its
answer included, in a prefix cache.
"""

from __future__ import annotations

import numpy as np

from simulator.scenario.workload import PrefixGroup, Sessions
from simulator.workload.entry import Entry
from simulator.workload.rate_curve import Floats, Ints
from simulator.workload.request import CONVERSATION, SYSTEM_PROMPT, RequestSpec, content_id


class PrefixGroups:
    """Which system prompt a session begins with, by the weights of the groups."""

    def __init__(self, sessions: Sessions) -> None:
        groups = sessions.groups or [PrefixGroup(system_prompt_tokens=sessions.system_prompt_tokens)]
        weights = np.array([group.weight for group in groups])
        self._edges = np.cumsum(weights / weights.sum())
        self._edges[-1] = 1.0
        self._tenants = np.array([group.tenants for group in groups])
        self._first_tenant = np.concatenate(([0], np.cumsum(self._tenants)[:-1]))
        self._tokens = np.array([group.system_prompt_tokens for group in groups])

    def pick(self, group_uniforms: Floats, tenant_uniforms: Floats) -> tuple[Ints, Ints]:
        """(tenant's number, tokens of its system prompt) of each session; shapes (n,)."""
        group = np.minimum(np.searchsorted(self._edges, group_uniforms, side="right"), len(self._edges) - 1)
        tenant = self._first_tenant[group] + (tenant_uniforms * self._tenants[group]).astype(np.int64)
        return tenant, self._tokens[group]


class Conversation:
    """One session in progress: makes the spec of each turn from the lengths it is given.

    Attributes:
        session_id: of every spec it makes.
        turn: the next turn's number.
    """

    __slots__ = ("_entry", "_history_tokens", "_key", "_max_prompt_tokens", "_prefix", "session_id", "turn")

    def __init__(
        self,
        entry: Entry,
        number: int,
        tenant: int,
        system_prompt_tokens: int,
        max_prompt_tokens: int | None,
    ) -> None:
        self.session_id = entry.global_id(number)
        self.turn = 0
        self._entry = entry
        self._key = content_id(entry.index, CONVERSATION, number)
        self._history_tokens = system_prompt_tokens
        system_prompt = content_id(entry.index, SYSTEM_PROMPT, tenant)
        self._prefix = ((system_prompt, system_prompt_tokens),) if system_prompt_tokens else ()
        self._max_prompt_tokens = max_prompt_tokens

    def next_turn(
        self, request: int, arrival_ps: int, user_tokens: int, output_tokens: int
    ) -> RequestSpec | None:
        """The next turn as the entry's request of that number; None if its prompt is over the limit."""
        prompt_tokens = self._history_tokens + user_tokens
        limit = self._max_prompt_tokens
        if self.turn and limit is not None and prompt_tokens > limit:
            return None
        max_tokens = self._entry.max_tokens(output_tokens)
        answer_tokens = output_tokens if max_tokens is None else min(output_tokens, max_tokens)
        self._history_tokens = prompt_tokens + answer_tokens
        turn = self.turn
        self.turn += 1
        return RequestSpec(
            self._entry.global_id(request),
            self._entry.index,
            arrival_ps,
            prompt_tokens,
            output_tokens,
            max_tokens,
            (*self._prefix, (self._key, self._history_tokens)),
            self._entry.config.priority,
            self.session_id,
            turn,
        )
