"""How watchers are told: one message of each at a time, callers in turn.

A few threads decide whether a caller may be told, and of what. What they come to is sent by others, since whoever sends
waits while the caller takes nothing: an account has no more than its share of those, and such a caller is cut off.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.rpc.admission import Caller
from services.runtime.rpc.streams import Stream
from services.runtime.rpc.turns import Turns
from services.secrets.core.changes import Change
from services.secrets.life.resume_tokens import Place, ResumeTokens
from strongroom.secrets.v1.secret_service_pb2 import WatchSecretResponse

log = logging.getLogger(__name__)

MAX_QUEUED = 10_000
_DECIDERS = 4
_ACCOUNT_DECIDERS = 3
_SENDERS = 512
_ACCOUNT_SENDERS = 128
# So many callers may take nothing at a time for longer than a moment, and for how long that is.
_MOST_WAITING = _SENDERS // 2
_MOMENT_SECONDS = 1.0
# Each watch has one message in turn, so their number is bounded already.
_ANY = sys.maxsize


class Watch:
    """One caller that watches."""

    def __init__(
        self, call: Call, names: Sequence[ResourceName], place: Place, tokens: ResumeTokens, stream: Stream
    ) -> None:
        self.call = call
        self.names = frozenset(names)
        self._in_turn = deque(names)
        self.place = place
        """Changes up to this one are told already."""
        self.tokens = tokens
        self.stream = stream
        self.spoke = time.monotonic()
        """When it was last sent anything."""
        self.caller = Caller(call.principal.account, call.principal.name, is_known=True)
        """Whose turn its messages take."""
        self.lock = threading.Lock()
        self.queue: deque[Change | Place] = deque()
        """What it is to be told; for a sign of life, the place behind what is told before it."""
        self.is_being_told = False

    def names_in_turn(self, count: int) -> list[ResourceName]:
        """Some of the secrets, others each time, until all were."""
        some = list(islice(self._in_turn, count))
        self._in_turn.rotate(-len(some))
        return some


class Telling:
    """Tells watchers what waits in their queues, in turn."""

    def __init__(
        self,
        message: Callable[[Watch, Change | Place], WatchSecretResponse],
        end: Callable[[Watch, StrongroomError], None],
    ) -> None:
        """`message` is what a watcher is told of a change, and raises what its watch is to `end` with."""
        self._message = message
        self._end = end
        self._deciding = _turns("watch-decider", _DECIDERS, _ACCOUNT_DECIDERS)
        self._sending = _turns("watch-sender", _SENDERS, _ACCOUNT_SENDERS)

    def stop(self) -> None:
        """Ends the threads, once no watch is left that listens."""
        self._deciding.close()
        self._sending.close()

    def tell(self, watch: Watch, told: Sequence[Change | Place]) -> None:
        """Has a watcher told of more, behind what waits already. It waits for nothing."""
        watch.spoke = time.monotonic()
        with watch.lock:
            watch.queue.extend(told)
            is_behind = len(watch.queue) > MAX_QUEUED
            if is_behind:
                watch.queue.clear()
            begins = not watch.is_being_told
            watch.is_being_told = True
        if is_behind:
            self._end(watch, StrongroomError(Reason.OVERLOADED, "the caller takes too little: watch again"))
        elif begins:
            self._go_on(watch)

    def relieve(self, watches: Iterable[Watch]) -> None:
        """Cuts callers off sooner where many take nothing, those of the account that has the most of them: half of the
        senders are others'."""
        waiting: dict[str, list[Watch]] = {}
        for watch in watches:
            if watch.stream.waits_seconds > _MOMENT_SECONDS:
                waiting.setdefault(watch.caller.group, []).append(watch)
        for _ in range(sum(map(len, waiting.values())) - _MOST_WAITING):
            max(waiting.values(), key=len).pop().stream.cut()

    def _go_on(self, watch: Watch) -> None:
        with watch.lock:
            watch.is_being_told = bool(watch.queue) and watch.stream.active
            if not watch.is_being_told:
                return
        self._deciding.put(_Step(watch.caller, partial(self._attempt, watch, self._decide)))

    def _decide(self, watch: Watch) -> None:
        with watch.lock:
            if not watch.queue:
                return
            change = watch.queue.popleft()
        message = self._message(watch, change)
        self._sending.put(_Step(watch.caller, partial(self._attempt, watch, partial(self._send, message=message))))

    def _send(self, watch: Watch, message: WatchSecretResponse) -> None:
        watch.stream.send(message)
        self._go_on(watch)

    def _attempt(self, watch: Watch, step: Callable[[Watch], None]) -> None:
        try:
            step(watch)
        except StrongroomError as error:
            self._end(watch, error)
        except Exception:
            log.exception("a watch of secrets failed unexpectedly")
            self._end(watch, StrongroomError(Reason.INTERNAL, "internal error: watch again"))


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done of a watch at a time."""

    caller: Caller
    work: Callable[[], None]
    size: int = 0

    def run(self) -> None:
        """Does it."""
        self.work()


def _turns(name: str, threads: int, share: int) -> Turns:
    return Turns(name, threads=threads, share=share, waiting=_ANY, waiting_bytes=_ANY)
