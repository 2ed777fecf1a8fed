"""What is worth noting of a login: it is written beside the calls, so that whoever logs in waits for no change of the
database, and needs none that takes changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine

from services.keystore.access.records import client_key_store, oidc_provider_store
from services.runtime.background import UNTIL_WOKEN, Background
from services.runtime.storage.database import transaction

T = TypeVar("T")

_AGAIN_SECONDS = 10.0
# Of more, what was noted last is not kept while it cannot be written.
_WAITING = 10_000
# Others wait for what a transaction has changed, until it ends.
_TOGETHER = 100


class LaterNotes(Generic[T]):
    """Writes the newest note of each thing, by its name, as soon as the database takes it."""

    def __init__(self, engine: Engine, name: str, fails: str, write: Callable[[Connection, str, T], None]) -> None:
        """`name` and `fails` are the background work's; `write` writes one note."""
        self._engine = engine
        self._write = write
        self._lock = threading.Lock()
        self._waiting: dict[str, T] = {}
        self._writing = Background(name, self.write, fails, every=UNTIL_WOKEN, again=_AGAIN_SECONDS, finishes=True)

    def start(self) -> None:
        """Begins to write."""
        self._writing.start()

    def stop(self) -> None:
        """Writes what there is, and ends."""
        self._writing.stop()

    def note(self, name: str, note: T) -> None:
        """Has it written of something."""
        with self._lock:
            if name in self._waiting or len(self._waiting) < _WAITING:
                self._waiting[name] = note
        self._writing.wake()

    def write(self) -> None:
        """One round. Raises DATABASE_UNAVAILABLE, and keeps what it has for the next."""
        for _ in range(0, len(self._waiting), _TOGETHER):
            self._write_some()

    def _write_some(self) -> None:
        with self._lock:
            some = {name: self._waiting.pop(name) for name in list(islice(self._waiting, _TOGETHER))}
        try:
            with transaction(self._engine) as connection:
                # In one order, so that no two processes wait for each other.
                for name in sorted(some):
                    self._write(connection, name, some[name])
        except BaseException:
            with self._lock:
                self._waiting = {**some, **self._waiting}
            raise


class ClientKeyUses(LaterNotes[int]):
    """When client keys were last used."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(
            engine,
            "client-key-uses",
            "when client keys were last used could not be written yet",
            client_key_store.note_use,
        )


class IssuerFetches(LaterNotes[tuple[int, str]]):
    """When the signing keys of OIDC issuers were last fetched, and why that failed."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(
            engine,
            "issuer-fetches",
            "when keys of OIDC issuers were last fetched could not be written yet",
            lambda connection, name, fetch: oidc_provider_store.note_fetch(connection, name, *fetch),
        )
