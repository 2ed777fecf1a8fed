"""Tails: an account's events as they come, in order of the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.audit.logs.logs import OpenLog
from services.audit.reading.events import Query
from services.runtime.call import Principal
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import paging
from services.runtime.rpc.stream_shares import StreamShares
from services.runtime.rpc.streams import Stream
from strongroom.audit.v1.audit_service_pb2 import StreamEventsResponse

log = logging.getLogger(__name__)

MAX_STREAMS = 64
ACCOUNT_STREAMS = 24
PRINCIPAL_STREAMS = 8
SIGN_OF_LIFE_SECONDS = 15.0

_WAIT_SECONDS = 0.5
_RECHECK_SECONDS = 2.0
_READ_LEAVES = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tail stands: the next leaf to look at, and the time from which on events are wanted."""

    next_index: int
    start_us: int

    def token(self, listed: str) -> str:
        """The resume token for the tail that `listed` describes."""
        return paging.encode(listed, f"{self.next_index}.{self.start_us}")


def place_of(listed: str, token: str) -> Place:
    """Where a resume token goes on. Raises RESUME_TOKEN_INVALID for that of another tail."""
    try:
        place = paging.decode_numbers(listed, token, 2)
    except StrongroomError:
        place = ()
    if not place or place[0] < 0:
        message = "resume_token is not one that a stream with these conditions gave"
        raise StrongroomError(Reason.RESUME_TOKEN_INVALID, message, field="resume_token")
    return Place(place[0], place[1])


@dataclass(frozen=True, slots=True)
class Tail:
    """What a caller follows. `check` raises when it may not any more."""

    source: OpenLog
    query: Query
    listed: str
    place: Place
    check: Callable[[], None]


class Tails:
    """All tails of the process, a thread each."""

    def __init__(self) -> None:
        self._shares = StreamShares(
            "streams of events",
            total=MAX_STREAMS,
            account=ACCOUNT_STREAMS,
            principal=PRINCIPAL_STREAMS,
            retry_after_seconds=SIGN_OF_LIFE_SECONDS,
        )
        self._draining = threading.Event()

    def begin(self, tail: Tail, caller: Principal) -> Callable[[Stream], None]:
        """What sends the tail's events to a stream, or ends it with OVERLOADED when the caller has too many."""

        def start(stream: Stream) -> None:
            # Not before: a call whose event cannot be recorded never begins, and would keep its place.
            try:
                give_back = self._shares.take(caller)
            except StrongroomError as error:
                stream.end(error)
                return
            threading.Thread(target=self._run, args=(tail, stream, give_back), name="audit-tail", daemon=True).start()

        return start

    def drain(self) -> None:
        """Ends every tail with SHUTTING_DOWN."""
        self._draining.set()

    def _run(self, tail: Tail, stream: Stream, give_back: Callable[[], None]) -> None:
        try:
            self._follow(tail, stream)
        except StrongroomError as error:
            stream.end(error)
        except Exception:
            log.exception("a tail of events failed unexpectedly")
            stream.end(StrongroomError(Reason.INTERNAL, "internal error"))
        finally:
            give_back()

    def _follow(self, tail: Tail, stream: Stream) -> None:
        place = tail.place
        sent = checked = time.monotonic()
        while stream.active:
            if self._draining.is_set():
                raise StrongroomError(Reason.SHUTTING_DOWN, "the service is about to end; resume the stream")
            if time.monotonic() - checked > _RECHECK_SECONDS:
                tail.check()
                checked = time.monotonic()
            end = min(tail.source.log.wait_for_growth(place.next_index, _WAIT_SECONDS), place.next_index + _READ_LEAVES)
            for index, event in tail.source.events.following(tail.query, place.next_index, end, place.start_us):
                place = Place(index + 1, place.start_us)
                stream.send(StreamEventsResponse(event=event, index=index, resume_token=place.token(tail.listed)))
                sent = time.monotonic()
            place = Place(max(end, place.next_index), place.start_us)
            if time.monotonic() - sent > SIGN_OF_LIFE_SECONDS:
                stream.send(StreamEventsResponse(resume_token=place.token(tail.listed)))
                sent = time.monotonic()
