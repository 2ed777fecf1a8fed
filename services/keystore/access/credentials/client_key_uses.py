"""When client keys were last used: written beside the calls that use them, so that whoever logs in waits for no change
of the database, and needs none that takes changes."""

from __future__ import annotations

import threading

from sqlalchemy import Engine

from services.keystore.access.records import client_key_store
from services.runtime.background import UNTIL_WOKEN, Background
from services.runtime.storage.database import transaction

_AGAIN_SECONDS = 10.0
# Of more, what was noted last is not kept while it cannot be written.
_WAITING = 10_000


class ClientKeyUses:
    """Writes them as soon as the database takes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: dict[str, int] = {}
        self._writing = Background(
            "client-key-uses",
            self.write,
            "when client keys were last used could not be written yet",
            every=UNTIL_WOKEN,
            again=_AGAIN_SECONDS,
            finishes=True,
        )

    def start(self) -> None:
        """Begins to write."""
        self._writing.start()

    def stop(self) -> None:
        """Writes what there is, and ends."""
        self._writing.stop()

    def note(self, name: str, now_us: int) -> None:
        """Has it written that a client key was used now."""
        with self._lock:
            if name in self._waiting or len(self._waiting) < _WAITING:
                self._waiting[name] = now_us
        self._writing.wake()

    def write(self) -> None:
        """One round. Raises DATABASE_UNAVAILABLE, and keeps what it has for the next."""
        with self._lock:
            uses, self._waiting = self._waiting, {}
        if not uses:
            return
        try:
            with transaction(self._engine) as connection:
                # In one order, so that no two processes wait for each other.
                for name, used_us in sorted(uses.items()):
                    client_key_store.note_use(connection, name, used_us)
        except BaseException:
            with self._lock:
                self._waiting = {**uses, **self._waiting}
            raise
