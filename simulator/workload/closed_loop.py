"""N users who wait for each answer: the load follows the system's speed."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario.arrivals import ClosedLoopArrivals
from simulator.scenario.workload import Sessions
from simulator.units import to_ps
from simulator.workload.entry import Entry
from simulator.workload.request import RequestSpec
from simulator.workload.sampling import LengthSampler, count_sampler, time_sampler
from simulator.workload.sessions import Conversation, PrefixGroups

_BLOCK = 16
_USER_SHIFT = 32


class _User:
    """One user's place in its own sequence of requests and sessions."""

    __slots__ = ("conversation", "requests", "sessions", "turns_left", "upcoming")

    def __init__(self) -> None:
        self.requests = 0
        self.sessions = 0
        self.turns_left = 0
        self.conversation: Conversation | None = None
        self.upcoming: list[tuple[int, int, int, int]] = []


class ClosedLoop:
    """The users of one entry; the draws of a user's k-th request have entity user·2³² + k."""

    def __init__(self, entry: Entry, arrivals: ClosedLoopArrivals, lengths: LengthSampler) -> None:
        self._entry = entry
        self._ramp_ps = to_ps(arrivals.ramp)
        self._lengths = lengths
        self._think = time_sampler(arrivals.think_time)
        self._users = [_User() for _ in range(arrivals.users)]
        self._sessions = sessions = entry.config.sessions
        self._turn_think = time_sampler(0.0 if sessions is None else sessions.think_time)
        if sessions is not None:
            self._turns = count_sampler(sessions.turns)
            self._groups = PrefixGroups(sessions)

    def arrivals(self) -> Iterator[RequestSpec]:
        count = len(self._users)
        for number in range(count):
            spec = self._next(number, self._entry.start_ps + self._ramp_ps * number // count, goes_on=False)
            if spec is not None:
                yield spec

    def after(self, spec: RequestSpec, end_ps: int, succeeded: bool) -> RequestSpec | None:
        request = spec.request_id - self._entry.global_id(0)
        return self._next(request % len(self._users), end_ps, goes_on=succeeded)

    def _next(self, number: int, now_ps: int, *, goes_on: bool) -> RequestSpec | None:
        """The user's next request: a further turn if the session goes on, else a new session or request."""
        entry, user = self._entry, self._users[number]
        ordinal = user.requests
        if ordinal % _BLOCK == 0:
            user.upcoming = self._draw(_address(number, ordinal))
        user_tokens, output_tokens, think_ps, turn_think_ps = user.upcoming[ordinal % _BLOCK]
        request = ordinal * len(self._users) + number

        if goes_on and user.turns_left and user.conversation is not None:
            arrival_ps = now_ps + turn_think_ps
            if arrival_ps >= entry.end_ps:
                return None
            spec = user.conversation.next_turn(request, arrival_ps, user_tokens, output_tokens)
            if spec is not None:
                user.turns_left -= 1
                user.requests += 1
                return spec

        arrival_ps = now_ps + (think_ps if ordinal else 0)
        if arrival_ps >= entry.end_ps:
            return None
        user.requests += 1
        if self._sessions is not None:
            user.conversation = self._new_conversation(self._sessions, number, user)
            return user.conversation.next_turn(request, arrival_ps, user_tokens, output_tokens)
        request_id = entry.global_id(request)
        return RequestSpec(
            request_id,
            entry.index,
            arrival_ps,
            user_tokens,
            output_tokens,
            entry.max_tokens(output_tokens),
            (),
            entry.config.priority,
            request_id,
            0,
        )

    def _draw(self, first: int) -> list[tuple[int, int, int, int]]:
        """(input, output, think time, think time within a session) of a block of one user's requests."""
        entry = self._entry
        inputs, outputs = self._lengths(entry.draws.uniforms(entry.purpose("length"), first, _BLOCK))
        uniforms = entry.draws.uniforms(entry.purpose("think_time"), first, _BLOCK)[:, 0]
        thinks = [self._think(uniforms).tolist(), self._turn_think(uniforms).tolist()]
        return list(zip(inputs.tolist(), outputs.tolist(), *thinks, strict=True))

    def _new_conversation(self, sessions: Sessions, number: int, user: _User) -> Conversation:
        entry = self._entry
        words = entry.draws.uniforms(entry.purpose("session"), _address(number, user.sessions), 1)
        tenants, tokens = self._groups.pick(words[:, 1], words[:, 2])
        session = user.sessions * len(self._users) + number
        user.sessions += 1
        user.turns_left = int(self._turns(words[:, 0])[0]) - 1
        return Conversation(entry, session, int(tenants[0]), int(tokens[0]), sessions.max_prompt_tokens)


def _address(user: int, ordinal: int) -> int:
    """Entity of a user's k-th request or session in the draws."""
    return (user << _USER_SHIFT) + ordinal
