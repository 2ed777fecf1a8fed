"""What this worker keeps in memory to answer readers with: secrets' records, and values as sealed as in the database.

Every change that matters to a reader is noted (`changes`) in the transaction that makes it, so a secret here is as it
was less than a second ago, and with every change that this process has made itself. While the database cannot tell
what changed, it is asked for the secret each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import Connection, Engine

from services.runtime.changes import Change, ChangeFeed, FreshCache
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading
from services.secrets.core import changes, store
from services.secrets.core.model import SealedVersion, Secret

FRESH_SECONDS = 0.8
"""How long ago may have been asked what changed: less than the second that a change may take to be seen."""

_SECRETS = 20_000
# There is no account of this name.
_NOTHING = ResourceName("-", "secrets", "-")
_SEALED_BYTES = 64 << 20
# Of a version besides its sealed value, as Python keeps it.
_OVERHEAD_BYTES = 1_024


class Readable:
    """Secrets and their sealed versions, from memory or the database. Raises DATABASE_UNAVAILABLE."""

    def __init__(
        self, engine: Engine, feed: ChangeFeed, *, secrets: int = _SECRETS, sealed_bytes: int = _SEALED_BYTES
    ) -> None:
        """Keeps at most so many secrets, and so many bytes of sealed versions."""
        self._engine = engine
        self._secrets: FreshCache[str, Secret | None] = FreshCache(feed, secrets, reads_when_stale=True)
        self._sealed = _SealedVersions(sealed_bytes)
        feed.listen(self._changed, self._forget_all)

    def secret(self, name: ResourceName, wanted: Callable[[Secret], int]) -> Secret | None:
        """The secret of this name, if there is one. `wanted` says which version will be asked for, 0 for none: it is
        read along with a secret that has to be read."""

        def read() -> tuple[Secret | None, int]:
            with reading(self._engine) as connection:
                as_of_revision = changes.current(connection)
                secret = store.secret(connection, name)
                if secret is not None and wanted(secret):
                    self._read_sealed(connection, secret, wanted(secret))
                return secret, as_of_revision

        return self._secrets.get(str(name), read)

    def remembers(self, name: ResourceName) -> bool:
        """Whether the secret of this name is found without asking the database."""
        return str(name) in self._secrets

    def look_in_vain(self) -> None:
        """Takes as long as looking for a secret that there is not."""
        with reading(self._engine) as connection:
            changes.current(connection)
            store.secret(connection, _NOTHING)

    def sealed(self, secret: Secret, number: int) -> SealedVersion | None:
        """A version of a secret that `secret` answered, if there is one of this number."""
        kept = self._sealed.get(secret, number)
        if kept is not None:
            return kept
        with reading(self._engine) as connection:
            return self._read_sealed(connection, secret, number)

    def _read_sealed(self, connection: Connection, secret: Secret, number: int) -> SealedVersion | None:
        found = store.sealed_version(connection, secret, number)
        if found is not None:
            self._sealed.keep(secret, found)
        return found

    def _changed(self, change: Change) -> None:
        self._secrets.drop(change.resource)

    def _forget_all(self) -> None:
        self._secrets.clear()
        self._sealed.clear()


class _SealedVersions:
    """Versions by the revision of their secret: one that was read at a revision is right for as long as the secret is
    at that. Beyond `capacity` bytes the oldest leave."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: dict[tuple[ResourceName, int, int], SealedVersion] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, secret: Secret, number: int) -> SealedVersion | None:
        return self._kept.get((secret.name, secret.revision, number))

    def keep(self, secret: Secret, read: SealedVersion) -> None:
        with self._lock:
            # Out and in again, so that its bytes count once.
            self._remove((secret.name, secret.revision, read.version.name.version))
            self._kept[secret.name, secret.revision, read.version.name.version] = read
            self._bytes += _size(read)
            while self._bytes > self._capacity:
                self._remove(next(iter(self._kept)))

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _remove(self, key: tuple[ResourceName, int, int]) -> None:
        removed = self._kept.pop(key, None)
        if removed is not None:
            self._bytes -= _size(removed)


def _size(version: SealedVersion) -> int:
    return len(version.sealed) + len(version.data_key) + _OVERHEAD_BYTES
