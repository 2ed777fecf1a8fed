"""Answers that come one after the other, over as many calls as the caller's credentials last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from strongroom.errors import AWAY, StrongroomError, from_rpc_error

Response = TypeVar("Response")

# What says that a credential is no longer accepted, or never was.
TOKEN_REFUSALS = frozenset({"TOKEN_EXPIRED", "TOKEN_INVALID"})
# A credential that is refused so soon was refused as the call began.
_AT_ONCE_SECONDS = 2.0


def heals(error: StrongroomError) -> bool:
    """Whether what ended a stream is over some time, by itself: whoever follows it goes on then. It may be the stream's
    own service, or one that it needs to begin a session or to record that the stream begins."""
    return error.code_name in AWAY


def pause_after(error: StrongroomError, least: float) -> float:
    """How many seconds to wait before the next stream: `least`, or as many as the service asks for."""
    return max(least, error.retry_after_seconds)


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that has begun. `renew` answers whether another one may have another credential."""

    call: Any
    peer: str
    trace_id: str
    renew: Callable[[], bool]
    method: str = ""


class ResponseStream(Generic[Response]):
    """Messages as they come; an iterator that another thread may close.

    A service ends each call with the session or certificate that it began with. The stream then goes on behind its last
    message, in a call with the next credential; a second one that is refused at once is raised. `begin` begins a call
    behind a resume token, which is empty while no message brought one.
    """

    def __init__(self, begun: Begun, begin: Callable[[str], Begun], resume_token: str = "") -> None:
        self._begun = begun
        self._begin = begin
        self._token = resume_token
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Response]:
        was_at_once = False
        while True:
            is_answered, since = False, time.monotonic()
            try:
                for response in self._begun.call:
                    is_answered = True
                    self._token = response.resume_token or self._token
                    yield response
            except grpc.RpcError as error:
                if self._closed.is_set():
                    return
                is_at_once = not is_answered and time.monotonic() - since < _AT_ONCE_SECONDS
                refusal = from_rpc_error(error, self._begun.peer, self._begun.trace_id, self._begun.method)
                if (is_at_once and was_at_once) or not self._may_go_on(refusal):
                    raise refusal from None
                was_at_once = is_at_once
            else:
                return
            finally:
                self._begun.call.cancel()
            self._begun = self._begin(self._token)
            if self._closed.is_set():
                self._begun.call.cancel()

    def close(self) -> None:
        """Ends the stream; whoever reads it finds its end."""
        self._closed.set()
        self._begun.call.cancel()

    def _may_go_on(self, refusal: StrongroomError) -> bool:
        return refusal.reason in TOKEN_REFUSALS and self._begun.renew()
