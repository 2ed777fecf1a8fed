"""Changes that are made once, however often they have to be asked for: each has a request id, and one of which nobody
knows whether it was made keeps it."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.message import Message

from services.runtime.access.session_tokens import account_of
from services.runtime.errors import Reason, StrongroomError

_ID = "request_id"
# What was asked was done, or may have been: the same request with the same id answers what it made.
_PENDING = frozenset({Reason.AUDIT_PENDING, Reason.CHANGE_UNDECIDED})
_PAUSE_SECONDS = 0.25
_UNDECIDED = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
)
# Longer than clients of Vault take to repeat what was answered 503, and shorter than anyone takes to want it again.
_KEPT_SECONDS = 30.0
_KEPT = 4096
# What names the thing that a request changes or makes.
_NAMING = ("name", "parent", "key_id", "secret_id")
# How requests begin that change nothing.
_READ = ("Get", "List")

Call = Callable[[Any, float], Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Left:
    """A request of which it is not known whether it was done, or which its caller does not know to be done."""

    account: str
    place: bytes
    digest: bytes
    secret: bytes
    request_id: str
    until: float


class Repeats:
    """Makes the calls of a door, whose clients send no request ids and repeat by themselves what is answered 503."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """A call may take so many `seconds`, repetitions included."""
        self._seconds = seconds
        self._monotonic = monotonic
        # So that what is kept says nothing of the values in requests.
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._left: OrderedDict[bytes, _Left] = OrderedDict()
        # What was done for each thing that clients ask a door for just now.
        self._done: list[list[_Left]] = []
        self._mine = threading.local()

    def whole(self, work: Callable[[], T], is_repeated: Callable[[T], bool]) -> T:
        """What `work` answers: all that a client asks a door for at once. Where the client comes again with all of it,
        as `is_repeated` says of the answer, whatever was done by then is the same change when it is asked for again."""
        done: list[_Left] = []
        self._mine.done = done
        with self._lock:
            self._done.append(done)
        try:
            answer = work()
        finally:
            self._mine.done = None
            with self._lock:
                self._done = [others for others in self._done if others is not done]
        if is_repeated(answer):
            for left in done:
                self._keep(replace(left, until=self._monotonic() + _KEPT_SECONDS))
        return answer

    def answer(self, principal: str, request: Message, call: Call) -> Any:
        """What `call` answers to the request within a number of seconds. Raises StrongroomError.

        A request that can have an id has one. While it is not known whether it was done, it is asked for again until
        the time is over; and when the same principal comes with the same request soon after that, it is that one:
        unless somebody has changed the same secret through this door meanwhile, which is then to be changed again.
        """
        if _ID not in request.DESCRIPTOR.fields_by_name:
            return self._forgetting(request, lambda: call(request, self._seconds))
        place, digest = self._place(principal, request), self._digest(principal, request)
        request_id = self._taken(place, digest) or str(uuid4())
        named = type(request)()
        named.CopyFrom(request)
        setattr(named, _ID, request_id)
        secret, until = self._keyed(_secret(request)), self._monotonic() + _KEPT_SECONDS
        left = _Left(account_of(principal), place, digest, secret, request_id, until)
        try:
            answer = self._forgetting(request, lambda: self._until_known(named, call))
        except StrongroomError as error:
            if error.code in _UNDECIDED:
                self._keep(replace(left, until=self._monotonic() + _KEPT_SECONDS))
            raise
        if (done := self._done_here()) is not None:
            done.append(left)
        return answer

    def is_left(self, principal: str, request: Message) -> bool:
        """Whether the same request was made just now, and it is not known whether it was done."""
        left = self._left.get(self._place(principal, request))
        return left is not None and left.digest == self._digest(principal, request) and self._is_fresh(left)

    def _forgetting(self, request: Message, make: Callable[[], Any]) -> Any:
        """What `make` answers. Where it changed something, or may have, nothing is left of other changes of the same
        secret."""
        try:
            answer = make()
        except StrongroomError as error:
            if error.code in _UNDECIDED:
                self._forget(request)
            raise
        self._forget(request)
        return answer

    def _done_here(self) -> list[_Left] | None:
        """What was done for whom this thread works for; None where that is not asked for as a whole."""
        done: list[_Left] | None = getattr(self._mine, "done", None)
        return done

    def _forget(self, request: Message) -> None:
        if not (changed := _secret(request)):
            return
        secret, here = self._keyed(changed), self._done_here()
        with self._lock:
            for place in [place for place, left in self._left.items() if left.secret == secret]:
                del self._left[place]
            for done in self._done:
                if done is not here:
                    done[:] = [left for left in done if left.secret != secret]

    def _until_known(self, request: Message, call: Call) -> Any:
        deadline = self._monotonic() + self._seconds
        pending: StrongroomError | None = None
        while (left := deadline - self._monotonic()) > 0:
            try:
                return call(request, left)
            except StrongroomError as error:
                if error.reason in _PENDING:
                    pending = error.renewed()
                elif pending is None or error.code not in _UNDECIDED:
                    raise
            time.sleep(_PAUSE_SECONDS)
        raise pending or StrongroomError(Reason.DEADLINE_EXCEEDED, "the call was not answered within its time")

    def _taken(self, place: bytes, digest: bytes) -> str:
        """The id of the same request, which is left no longer; empty where another one was made meanwhile."""
        with self._lock:
            left = self._left.pop(place, None)
        return left.request_id if left is not None and left.digest == digest and self._is_fresh(left) else ""

    def _keep(self, left: _Left) -> None:
        """Keeps it as the newest. Where there are too many, one that is over is kept no longer, or else the oldest of
        the account that has the most: what others are refused takes nobody's."""
        with self._lock:
            self._left.pop(left.place, None)
            self._left[left.place] = left
            if len(self._left) > _KEPT:
                oldest = next(iter(self._left.values()))
                if self._is_fresh(oldest):
                    most, _ = Counter(one.account for one in self._left.values()).most_common(1)[0]
                    oldest = next(one for one in self._left.values() if one.account == most)
                del self._left[oldest.place]

    def _is_fresh(self, left: _Left) -> bool:
        return left.until > self._monotonic()

    def _place(self, principal: str, request: Message) -> bytes:
        names = [str(getattr(request, field, "")) for field in _NAMING]
        return self._keyed(principal, request.DESCRIPTOR.full_name, *names)

    def _digest(self, principal: str, request: Message) -> bytes:
        return self._keyed(principal, request.DESCRIPTOR.full_name, request.SerializeToString(deterministic=True).hex())

    def _keyed(self, *parts: str) -> bytes:
        return blake2b("\n".join(parts).encode(), key=self._key, digest_size=32).digest()


def _secret(request: Message) -> str:
    """The name of the secret that a request changes or makes; empty for others."""
    if request.DESCRIPTOR.name.startswith(_READ):
        return ""
    name = str(getattr(request, "name", ""))
    if secret_id := getattr(request, "secret_id", ""):
        name = f"{getattr(request, 'parent', '')}/secrets/{secret_id}"
    return name.partition("/versions/")[0] if "/secrets/" in name else ""
