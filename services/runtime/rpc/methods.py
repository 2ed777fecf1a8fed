"""How the calls of a method arrive, as its handler says: in whose threads, and for whom."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.admission import Headers

_ATTRIBUTE = "arrival"
BEGIN = "begin"
"""Of a handler that answers by a `Reply`, in a thread of its own choice."""


class Mode(enum.Enum):
    """Where a method's handler runs."""

    IN_TURN = enum.auto()
    """In a thread, callers in turn."""
    AT_ONCE = enum.auto()
    """In gRPC's own thread: for what waits for nothing and costs next to nothing."""
    WATCH = enum.auto()
    """In gRPC's own thread; it gets an `Outlet` in place of gRPC's way to send, and keeps it."""
    EXCHANGE = enum.auto()
    """In a thread, once for each message of a stream, each of which it answers with one."""


class Room(enum.Enum):
    """Whose threads a handler of `Mode.IN_TURN` or `EXCHANGE` takes."""

    BY_CALLER = enum.auto()
    """The callers' that are known, or the strangers'."""
    EXCHANGES = enum.auto()
    """Those for requests that authenticate, where the caller is not known."""
    RESERVED = enum.auto()
    """Those for what must be answered while all others wait for something."""


@dataclass(frozen=True, slots=True)
class Only:
    """The identities of certificates that a method is for, and what others are told."""

    identities: frozenset[str]
    refusal: StrongroomError

    def admit(self, headers: Headers) -> None:
        """Raises for a caller that the method is not for."""
        if headers.spiffe_id not in self.identities:
            raise self.refusal.renewed()


@dataclass(frozen=True, slots=True)
class Arrival:
    """How the calls of a method arrive. Where it is for some `only`, others are refused before anything of a message is
    read."""

    mode: Mode = Mode.IN_TURN
    room: Room = Room.BY_CALLER
    only: Only | None = None


_IN_TURN = Arrival()


def arrival_of(handler: Callable[..., Any]) -> Arrival:
    """How the calls of a method arrive."""
    arrival: Arrival = getattr(handler, _ATTRIBUTE, _IN_TURN)
    return arrival


def arriving(handler: Callable[..., Any], arrival: Arrival) -> Callable[..., Any]:
    """The handler, marked with how its calls arrive."""

    def marked(*arguments: Any) -> Any:
        return handler(*arguments)

    setattr(marked, _ATTRIBUTE, arrival)
    setattr(marked, BEGIN, getattr(handler, BEGIN, None))
    if getattr(handler, "experimental_non_blocking", False) or arrival.mode is Mode.WATCH:
        marked.experimental_non_blocking = True  # type: ignore[attr-defined]
    return marked


def unknown() -> StrongroomError:
    """What a caller is told who calls a method that there is not."""
    return StrongroomError(Reason.NOT_YET, "Method not found!")


def nobody(_request: Any, _context: Any) -> Any:
    """The handler of methods that there are not: a call of one is dismissed by its headers, as one that the method is
    not for."""
    raise unknown()


setattr(nobody, _ATTRIBUTE, Arrival(only=Only(frozenset(), unknown())))


def malformed() -> StrongroomError:
    """What a caller is told whose message cannot be read."""
    return StrongroomError(Reason.REQUEST_MALFORMED, "the message is not one that this method takes")


def without_message() -> StrongroomError:
    """What a caller is told whose call has none."""
    return StrongroomError(Reason.REQUEST_MALFORMED, "the call has no message")


def broken() -> StrongroomError:
    """What a caller is told of a fault of ours."""
    return StrongroomError(Reason.INTERNAL, "internal error")
