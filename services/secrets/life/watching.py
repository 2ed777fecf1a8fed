"""Watching secrets: their changes, told as they come, whichever process made them.

One thread asks the database for what changed since the last time, five times a second, while anybody watches. A few
threads send; each watch has a queue of its own, so that a caller who takes nothing keeps nobody else waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection, Engine

from services.runtime import clock as clocks
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.background import UNTIL_WOKEN, Background
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.rpc.stream_shares import StreamShares
from services.runtime.rpc.streams import Stream
from services.runtime.storage.database import reading
from services.secrets.core import changes, store
from services.secrets.core.changes import Change, Mark
from services.secrets.core.editing import SecretEditor
from services.secrets.core.model import Secret
from services.secrets.core.states import no_secret
from services.secrets.life import resume_tokens
from services.secrets.life.resume_tokens import Place
from strongroom.audit.v1.event_pb2 import OUTCOME_DENIED
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED
from strongroom.secrets.v1.secret_service_pb2 import (
    SECRET_CHANGE_DELETED,
    SECRET_CHANGE_STATE,
    SECRET_CHANGE_UNSPECIFIED,
    WatchSecretResponse,
)

log = logging.getLogger(__name__)

ACTION = "secrets:WatchSecret"

_POLL_SECONDS = 0.2
_SIGN_OF_LIFE_SECONDS = 15.0
_BATCH = 1_000
_MAX_RESUMED = 10_000
_MAX_QUEUED = 10_000
# Well below the calls that a process takes on at once, of which each watch is one.
_MAX_WATCHES = 1_024
_ACCOUNT_WATCHES = 384
_PRINCIPAL_WATCHES = 192
_SENDERS = 4
_NO_REVISION = 0


class _Watch:
    """One caller that watches."""

    def __init__(self, call: Call, names: Sequence[ResourceName], place: Place, stream: Stream) -> None:
        self.call = call
        self.names = frozenset(names)
        self.place = place
        """Changes up to this one are told already."""
        self.stream = stream
        self.spoke = time.monotonic()
        """When it was last sent anything."""
        self.queue: deque[Change | None] = deque()
        """What it is to be told; None for a sign of life."""
        self.lock = threading.Lock()
        self.is_sending = False


class Watches:
    """Everybody who watches secrets through this process."""

    def __init__(
        self, engine: Engine, editor: SecretEditor, authorizer: Authorizer, audit: AuditClient, clock: Clock
    ) -> None:
        self._engine = engine
        self._editor = editor
        self._authorizer = authorizer
        self._audit = audit
        self._clock = clock
        self._turn = threading.Lock()
        # Held for moments only: gRPC's own thread takes it when a call ends.
        self._lock = threading.Lock()
        self._watches: set[_Watch] = set()
        self._shares = StreamShares(
            "watches",
            total=_MAX_WATCHES,
            account=_ACCOUNT_WATCHES,
            principal=_PRINCIPAL_WATCHES,
            retry_after_seconds=1.0,
        )
        self._seen = 0
        self._mark: Mark = None
        self._stopping = threading.Event()
        self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="watch-sender")
        self._following = Background(
            "watches",
            self._poll,
            "changes of secrets could not be read for watchers",
            every=_POLL_SECONDS,
            first=UNTIL_WOKEN,
        )

    def start(self) -> None:
        """Begins to follow changes."""
        self._following.start()

    def stop(self) -> None:
        """Ends every watch with SHUTTING_DOWN."""
        self._stopping.set()
        self._following.end()
        error = StrongroomError(Reason.SHUTTING_DOWN, "this process is about to end: watch again")
        for watch in self._present():
            # Not waited for: a caller who takes nothing would keep the process.
            self._senders.submit(self._end, watch, error)
        self._senders.shutdown(wait=False)

    def watch(self, call: Call, names: Sequence[ResourceName], resume_token: str) -> Callable[[Stream], None]:
        """What begins a watch, once the caller may watch every one of the secrets. Raises PERMISSION_DENIED,
        SECRET_NOT_FOUND, FIELD_INVALID for a resume token that is none; the watch ends with OVERLOADED when the caller
        has too many."""
        with reading(self._engine) as connection:
            found = store.secrets_of(connection, names)
        for name in names:
            self._editor.permit(call, ACTION, name, found.get(name))
        since = resume_tokens.decode(resume_token)
        if self._stopping.is_set():
            raise StrongroomError(Reason.SHUTTING_DOWN, "this process is about to end")
        return lambda stream: self._begin(call, names, since, stream)

    def _begin(self, call: Call, names: Sequence[ResourceName], since: Place | None, stream: Stream) -> None:
        # Not before: a call whose event cannot be recorded never begins, and would keep its place.
        try:
            give_back = self._shares.take(call.principal)
        except StrongroomError as error:
            stream.fail(error)
            return
        if not stream.on_end(give_back):
            give_back()
            return
        # In turn with whoever hands out changes, so that none falls between what is told first and later.
        with self._turn:
            with reading(self._engine) as connection:
                now = changes.current(connection)
                mark = changes.mark(connection, now)
                missed = self._missed(connection, names, since, now)
                first = missed if missed is not None else self._as_they_are(connection, names, now, mark)
            watch = _Watch(call, names, Place.of(now, mark), stream)
            with self._lock:
                if not self._watches:
                    self._seen, self._mark = now, mark
                self._watches.add(watch)
        if not stream.on_end(lambda: self._forget(watch)):
            self._forget(watch)
            return
        self._following.wake()
        self._tell(watch, first)

    def _missed(
        self, connection: Connection, names: Sequence[ResourceName], since: Place | None, now: int
    ) -> list[Change] | None:
        """What changed since a resume token; None where that is not known any more, or where the change that it is of
        is not one of this database, as after a failover that lost it."""
        if since is None or since.revision > now:
            return None
        if since.revision < now and since.revision + 1 < changes.oldest(connection):
            return None
        if since.digest and since != Place.of(since.revision, changes.mark(connection, since.revision)):
            return None
        found = changes.since(connection, since.revision, _MAX_RESUMED + 1)
        wanted = set(names)
        return [change for change in found if change.secret in wanted] if len(found) <= _MAX_RESUMED else None

    def _as_they_are(self, connection: Connection, names: Sequence[ResourceName], now: int, mark: Mark) -> list[Change]:
        found = list(store.secrets_of(connection, names).values())
        # The last alone has a number to resume from: whoever has heard it has heard them all.
        return [
            _as_it_is(secret, now, mark) if secret is found[-1] else _as_it_is(secret, _NO_REVISION, None)
            for secret in found
        ]

    def _present(self) -> list[_Watch]:
        with self._lock:
            return list(self._watches)

    def _poll(self) -> float | None:
        with self._turn:
            watches = self._present()
            if not watches:
                return UNTIL_WOKEN
            with reading(self._engine) as connection:
                if changes.went_back(connection, self._seen, self._mark):
                    self._start_over(connection, watches)
                    return None
                found = changes.since(connection, self._seen, _BATCH)
                if found:
                    self._seen = found[-1].revision
                    self._mark = changes.mark(connection, self._seen)
            for watch in watches:
                told = watch.place.revision
                new = [change for change in found if change.revision > told and change.secret in watch.names]
                if self._seen > told:
                    watch.place = Place.of(self._seen, self._mark)
                if new:
                    self._tell(watch, new)
        for watch in watches:
            if time.monotonic() - watch.spoke > _SIGN_OF_LIFE_SECONDS:
                self._tell(watch, [None])
        return None

    def _start_over(self, connection: Connection, watches: Sequence[_Watch]) -> None:
        """Tells everybody how things are: the database is another one than before, or an older one."""
        log.warning("the database does not know the changes that watchers were told of; they are told how secrets are")
        self._seen = changes.current(connection)
        self._mark = changes.mark(connection, self._seen)
        for watch in watches:
            watch.place = Place.of(self._seen, self._mark)
            self._tell(watch, self._as_they_are(connection, tuple(watch.names), self._seen, self._mark))

    def _tell(self, watch: _Watch, told: Sequence[Change | None]) -> None:
        watch.spoke = time.monotonic()
        with watch.lock:
            watch.queue.extend(told)
            if watch.is_sending or self._stopping.is_set():
                return
            watch.is_sending = True
        self._senders.submit(self._send, watch)

    def _send(self, watch: _Watch) -> None:
        try:
            while True:
                with watch.lock:
                    if not watch.queue or not watch.stream.active:
                        watch.is_sending = False
                        return
                    _require_room(watch)
                    change = watch.queue.popleft()
                self._require_permitted(watch, change)
                watch.stream.send(self._message(watch, change))
        except StrongroomError as error:
            self._end(watch, error)
        except Exception:
            log.exception("a watch of secrets failed unexpectedly")
            self._end(watch, StrongroomError(Reason.INTERNAL, "internal error: watch again"))

    def _require_permitted(self, watch: _Watch, change: Change | None) -> None:
        """Raises PERMISSION_DENIED, and records that, when the caller may not watch any more."""
        wanted = [change.secret] if change is not None else list(watch.names)
        with reading(self._engine) as connection:
            found = store.secrets_of(connection, wanted)
        again = Call(
            watch.call.service,
            watch.call.method,
            watch.call.action,
            source_address=watch.call.source_address,
            trace_id=watch.call.trace_id,
            principal=watch.call.principal,
            via_service=watch.call.via_service,
        )
        try:
            for name in wanted:
                if name not in found:
                    raise no_secret(name)
                self._authorizer.authorize(again, ACTION, found[name].resource)
        except StrongroomError as error:
            refused = [event for event in again.events if event.outcome == OUTCOME_DENIED]
            if refused:
                self._audit.append(refused)
            raise error from None

    def _message(self, watch: _Watch, change: Change | None) -> WatchSecretResponse:
        if change is None:
            return WatchSecretResponse(
                change=SECRET_CHANGE_UNSPECIFIED,
                resume_token=resume_tokens.encode(watch.place),
                time=clocks.from_microseconds(self._clock.now_us()),
            )
        place = Place.of(change.revision, change.mark)
        return WatchSecretResponse(
            change=change.kind,
            name=str(change.secret),
            stages=change.stages,
            version=change.version,
            resume_token=resume_tokens.encode(place) if change.revision != _NO_REVISION else "",
            time=clocks.from_microseconds(change.changed_us),
        )

    def _end(self, watch: _Watch, error: StrongroomError) -> None:
        self._forget(watch)
        watch.stream.fail(error)

    def _forget(self, watch: _Watch) -> None:
        with self._lock:
            self._watches.discard(watch)


def _require_room(watch: _Watch) -> None:
    if len(watch.queue) > _MAX_QUEUED:
        raise StrongroomError(Reason.OVERLOADED, "the caller takes too little: watch again")


def _as_it_is(secret: Secret, revision: int, mark: Mark) -> Change:
    kind = SECRET_CHANGE_STATE if secret.state == SECRET_STATE_ENABLED else SECRET_CHANGE_DELETED
    return Change(revision, secret.name, kind, 0, secret.stages, secret.updated_us, mark)
