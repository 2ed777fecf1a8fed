"""Watching secrets: their changes, told as they come, whichever process made them.

One thread asks the database for what changed since the last time, five times a second, while anybody watches. It waits
for no caller: each watch has a queue of its own, out of which it is told in turn with others (`telling`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

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
from services.runtime.storage import row_seals
from services.runtime.storage.database import reading
from services.secrets.core import changes, store
from services.secrets.core.changes import Change, Mark
from services.secrets.core.editing import SecretEditor
from services.secrets.core.model import Secret
from services.secrets.core.states import no_secret
from services.secrets.life.resume_tokens import Place, ResumeTokens
from services.secrets.life.telling import MAX_QUEUED, Telling, Watch
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
# A sign of life tells of no secret: it is for those who may watch so many of them still, others each time.
_LOOKED_AT = 16
_BATCH = 1_000
_MAX_RESUMED = MAX_QUEUED
# Well below the calls that a process takes on at once, of which each watch is one.
_MAX_WATCHES = 1_024
_ACCOUNT_WATCHES = 384
_PRINCIPAL_WATCHES = 192
_NO_REVISION = 0


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
        self._watches: set[Watch] = set()
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
        self._telling = Telling(self._permitted_message, self._end)
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
        for watch in self._present():
            self._end(watch, _about_to_end())
        self._telling.stop()

    def watch(self, call: Call, names: Sequence[ResourceName], resume_token: str) -> Callable[[Stream], None]:
        """What begins a watch, once the caller may watch every one of the secrets. Raises PERMISSION_DENIED,
        SECRET_NOT_FOUND, FIELD_INVALID for a resume token that is none; the watch ends with OVERLOADED when the caller
        has too many."""
        with reading(self._engine) as connection:
            found = store.secrets_of(connection, names)
            tokens = ResumeTokens(row_seals.of(connection), names[0].account)
        for name in names:
            self._editor.permit(call, ACTION, name, found.get(name))
        since = tokens.decode(resume_token)
        if self._stopping.is_set():
            raise _about_to_end()
        return lambda stream: self._begin(call, names, since, tokens, stream)

    def _begin(
        self, call: Call, names: Sequence[ResourceName], since: Place | None, tokens: ResumeTokens, stream: Stream
    ) -> None:
        # Not before: a call whose event cannot be recorded never begins, and would keep its place.
        try:
            give_back = self._shares.take(call.principal)
        except StrongroomError as error:
            stream.end(error)
            return
        if not stream.on_end(give_back):
            give_back()
            return
        with reading(self._engine) as connection:
            now = changes.current(connection)
            mark = changes.mark(connection, now)
            missed = self._missed(connection, names, since, now)
            first = missed if missed is not None else self._as_they_are(connection, names, now, mark)
        watch = Watch(call, names, Place.of(now, mark), tokens, stream)
        try:
            self._enter(watch, now, mark, first)
        except StrongroomError as error:
            stream.end(error)
            return
        if not stream.on_end(lambda: self._forget(watch)):
            self._forget(watch)
        self._following.wake()

    def _enter(self, watch: Watch, now: int, mark: Mark, first: Sequence[Change]) -> None:
        """Has a watch told of what was read at `now`, of what has changed since, and of what changes from here on: none
        falls in between, and while much is read nobody else waits. Raises OVERLOADED where too much has changed."""
        between: Sequence[Change] = ()
        with self._turn, reading(self._engine) as connection:
            if self._stopping.is_set():
                raise _about_to_end()
            if changes.went_back(connection, now, mark):
                now = changes.current(connection)
                mark = changes.mark(connection, now)
                watch.place, first = Place.of(now, mark), self._as_they_are(connection, tuple(watch.names), now, mark)
            if not self._present():
                self._seen, self._mark = now, mark
            elif self._seen > now:
                between = self._between(connection, now)
                watch.place = Place.of(self._seen, self._mark)
            with self._lock:
                self._watches.add(watch)
            self._telling.tell(watch, [*first, *(change for change in between if change.secret in watch.names)])

    def _between(self, connection: Connection, now: int) -> list[Change]:
        """What others who watch have been told of since."""
        found = changes.since(connection, now, _MAX_RESUMED + 1)
        if len(found) > _MAX_RESUMED:
            raise StrongroomError(Reason.OVERLOADED, "too much changed at once: watch again")
        return [change for change in found if change.revision <= self._seen]

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

    def _present(self) -> list[Watch]:
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
                    self._telling.tell(watch, new)
        for watch in watches:
            if time.monotonic() - watch.spoke > _SIGN_OF_LIFE_SECONDS:
                self._telling.tell(watch, [watch.place])
        self._telling.relieve(watches)
        return None

    def _start_over(self, connection: Connection, watches: Sequence[Watch]) -> None:
        """Tells everybody how things are: the database is another one than before, or an older one."""
        log.warning("the database does not know the changes that watchers were told of; they are told how secrets are")
        self._seen = changes.current(connection)
        self._mark = changes.mark(connection, self._seen)
        for watch in watches:
            watch.place = Place.of(self._seen, self._mark)
            self._telling.tell(watch, self._as_they_are(connection, tuple(watch.names), self._seen, self._mark))

    def _permitted_message(self, watch: Watch, change: Change | Place) -> WatchSecretResponse:
        self._require_permitted(watch, change)
        return self._message(watch, change)

    def _require_permitted(self, watch: Watch, change: Change | Place) -> None:
        """Raises PERMISSION_DENIED, and records that, when the caller may not watch any more."""
        wanted = [change.secret] if isinstance(change, Change) else watch.names_in_turn(_LOOKED_AT)
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

    def _message(self, watch: Watch, change: Change | Place) -> WatchSecretResponse:
        if isinstance(change, Place):
            return WatchSecretResponse(
                change=SECRET_CHANGE_UNSPECIFIED,
                resume_token=watch.tokens.encode(change),
                time=clocks.from_microseconds(self._clock.now_us()),
            )
        place = Place.of(change.revision, change.mark)
        return WatchSecretResponse(
            change=change.kind,
            name=str(change.secret),
            stages=change.stages,
            version=change.version,
            resume_token=watch.tokens.encode(place) if change.revision != _NO_REVISION else "",
            time=clocks.from_microseconds(change.changed_us),
        )

    def _end(self, watch: Watch, error: StrongroomError) -> None:
        self._forget(watch)
        watch.stream.end(error)

    def _forget(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)


def _about_to_end() -> StrongroomError:
    return StrongroomError(Reason.SHUTTING_DOWN, "this process is about to end: watch again")


def _as_it_is(secret: Secret, revision: int, mark: Mark) -> Change:
    kind = SECRET_CHANGE_STATE if secret.state == SECRET_STATE_ENABLED else SECRET_CHANGE_DELETED
    return Change(revision, secret.name, kind, 0, secret.stages, secret.updated_us, mark)
