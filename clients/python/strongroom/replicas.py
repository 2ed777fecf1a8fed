"""A service at several addresses: calls go to one of them, and to the next when nobody answers there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import grpc

from strongroom import repeats

# What gRPC had not handed over when a server stopped it calls cancelled; the client's own calls are not cancelled here.
_UNANSWERED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_NOBODY_ANSWERED = _UNANSWERED | {grpc.StatusCode.DEADLINE_EXCEEDED}
# After each round over all of them, and one more follows the last: a replica that was away a moment ago may be back
# when the others are gone, as in a rolling restart, and what all of them wait for, such as a database that fails over.
_PAUSES = (0.1, 0.2, 0.4, 0.8, 0.8)
# Whoever is not heard of for so long hangs, and is left alone for a while: each further try would cost a second.
_HANGS_SECONDS = 0.9
_LEFT_ALONE_SECONDS = 2.0

Metadata = tuple[tuple[str, str], ...]


class Replicas:
    """What stubs take for a channel. `currents` answer the connection to each address for a call that begins now, and
    repeat nothing themselves.

    A call that UNAVAILABLE answered is made at the next address, again and again within its deadline, with a pause
    after each round: nothing was done then, or it may be done again. After a deadline that ended unanswered only later
    calls go to the next: that one may have been done.
    """

    def __init__(self, currents: Sequence[Callable[[], grpc.Channel]]) -> None:
        self._currents = currents
        self._preferred = 0
        self._left_alone_until = [0.0] * len(currents)

    def unary_unary(self, path: str, **options: Any) -> _Method:
        """Stands for the method of a channel."""
        return _Method(self, lambda channel: channel.unary_unary(path, **options))

    def unary_stream(self, path: str, **options: Any) -> Callable[..., Any]:
        """Stands for the method of a channel. A stream stays where it began; once it has ended because nobody is there,
        later ones begin at the next address."""

        def begin(request: Any, **arguments: Any) -> Any:
            index = self._preferred
            stream: Any = self._currents[index]().unary_stream(path, **options)(request, **arguments)
            stream.add_done_callback(lambda ended: self._note_ended(index, ended))
            return stream

        return begin

    def order(self) -> list[int]:
        """The addresses in the order to try them in."""
        count, first = len(self._currents), self._preferred
        return [(first + step) % count for step in range(count * (len(_PAUSES) + 1))]

    def pause(self, tried: int) -> float:
        """How long to wait after so many tries."""
        rounds, within = divmod(tried, len(self._currents))
        return 0.0 if within else _PAUSES[rounds - 1]

    def connection(self, index: int) -> grpc.Channel:
        """The one to an address."""
        return self._currents[index]()

    def _note_ended(self, index: int, stream: grpc.Call) -> None:
        if stream.code() is grpc.StatusCode.UNAVAILABLE:
            self.note_unanswered(index)

    def instead_of(self, index: int) -> int:
        """The address to try when it is this one's turn: the next where this one hangs and that one does not."""
        count, now = len(self._currents), time.monotonic()
        in_turn = [(index + step) % count for step in range(count)]
        return next((one for one in in_turn if self._left_alone_until[one] <= now), index)

    def note_unanswered(self, index: int, seconds: float = 0.0) -> None:
        """Later calls begin at another address; nobody was heard of at this one for so many seconds."""
        if seconds > _HANGS_SECONDS:
            self._left_alone_until[index] = time.monotonic() + _LEFT_ALONE_SECONDS
        if index == self._preferred:
            self._preferred = (index + 1) % len(self._currents)


class _Method:
    def __init__(self, replicas: Replicas, open_method: Callable[[grpc.Channel], Any]) -> None:
        self._replicas = replicas
        self._open = open_method
        # Not one that was given up: it lives no longer than its calls.
        self._opened: WeakKeyDictionary[grpc.Channel, Any] = WeakKeyDictionary()

    def with_call(self, request: Any, timeout: float, metadata: Metadata = ()) -> tuple[Any, grpc.Call]:
        """The answer and its call, as a channel's own method has it."""
        deadline = time.monotonic() + timeout
        *others, last = self._replicas.order()
        repeatable = repeats.is_repeatable(request)
        for tried, turn in enumerate(others, 1):
            began = time.monotonic()
            left, index = deadline - began, self._replicas.instead_of(turn)
            pause = self._replicas.pause(tried)
            if repeatable or repeats.is_connected(self._replicas.connection(index), left):
                try:
                    return self._on(index, request, left, metadata)
                except grpc.RpcError as error:
                    # What a stub raises is always both.
                    unanswered = cast("grpc.Call", error).code() in _UNANSWERED
                    again = unanswered if repeatable else repeats.nothing_was_done(error)
                    if not again or time.monotonic() + pause >= deadline:
                        raise
            else:
                self._replicas.note_unanswered(index, time.monotonic() - began)
            time.sleep(pause)
        return self._on(self._replicas.instead_of(last), request, deadline - time.monotonic(), metadata)

    def _on(self, index: int, request: Any, timeout: float, metadata: Metadata) -> tuple[Any, grpc.Call]:
        channel = self._replicas.connection(index)
        method = self._opened.get(channel)
        if method is None:
            method = self._opened[channel] = self._open(channel)
        began = time.monotonic()
        try:
            answer: tuple[Any, grpc.Call] = method.with_call(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            code = cast("grpc.Call", error).code()
            if code in _NOBODY_ANSWERED:
                silent = code in _UNANSWERED and not repeats.is_answered(error)
                self._replicas.note_unanswered(index, time.monotonic() - began if silent else 0.0)
            raise
        return answer
