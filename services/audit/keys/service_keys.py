"""Keys that audit keeps wrapped under the mesh's root key, by crypto: sealing roots, signing keys, the index's key.

They are asked for at start-up and when a new one is due, never while an event waits, so that audit and crypto cannot
wait for each other in a circle.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from services.audit.keys.store import ServiceKey, WrappedKeys
from services.runtime import background
from services.runtime.background import Background
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes

SEALING_ROOT = "audit sealing root"
SIGNING_KEY = "audit log signing key"
INDEX_KEY = "audit index key"
RECORD_KEY = "audit record key"

_NEEDED_FIRST = (SEALING_ROOT, INDEX_KEY, RECORD_KEY)
_RETRY_SECONDS = 0.25
_CHECK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A blob that only crypto opens, and only for the audit service."""

    blob: bytes
    root_version: int
    """The version of the root key that it is under."""


class RootWrapping(Protocol):
    """Crypto's part. A key is wrapped for a purpose, and opened for that alone.

    Methods raise CRYPTO_UNREACHABLE, PROVIDER_UNAVAILABLE.
    """

    def wrap(self, purpose: str, key: SensitiveBytes) -> Wrapped:
        """Wraps a key."""

    def unwrap(self, purpose: str, wrapped: bytes) -> SensitiveBytes:
        """What was wrapped. Raises KEY_MATERIAL_REFUSED."""

    def rewrap(self, purpose: str, wrapped: bytes) -> Wrapped:
        """Wraps it anew, under the newest version of the root key. Raises KEY_MATERIAL_REFUSED."""


class ServiceKeys:
    """Makes and opens these keys; what was opened stays in memory."""

    def __init__(self, store: WrappedKeys, wrapping: RootWrapping, clock: Clock) -> None:
        self._store = store
        self._wrapping = wrapping
        self._clock = clock
        self._opened: dict[bytes, SensitiveBytes] = {}
        self._shown: dict[bytes, Wrapped] = {}
        self.prepared = False
        """Whether a writer of the log would find what it needs first already open."""

    def prepare(self) -> None:
        """Opens what a writer of the log needs first, so that it need not wait for crypto then. Raises as `open`."""
        newest = [key for purpose in _NEEDED_FIRST if (key := self.newest(purpose)) is not None]
        for key_id in [*(key.key_id for key in newest), *(key.key_id for key in self._store.signing_keys()[:2])]:
            self.open(key_id)
        self.prepared = True

    def newest(self, purpose: str) -> ServiceKey | None:
        """The one that was made last for a purpose."""
        return self._store.newest_service_key(purpose)

    def found(self, purpose: str) -> SensitiveBytes | None:
        """The newest key for a purpose; None where the database has none that crypto opens. Raises as `open` else."""
        newest = self.newest(purpose)
        try:
            return self.open(newest.key_id) if newest is not None else None
        except StrongroomError as error:
            if error.reason is not Reason.KEY_MATERIAL_REFUSED:
                raise
            return None

    def make(self, purpose: str, material: SensitiveBytes) -> ServiceKey:
        """A new one, wrapped and stored. Raises as `RootWrapping.wrap`."""
        wrapped = self._wrapping.wrap(purpose, material)
        key = ServiceKey(os.urandom(16), purpose, self._clock.now_us(), wrapped.blob, wrapped.root_version)
        self._store.insert_service_key(key)
        self._opened[key.key_id] = material
        return key

    def open(self, key_id: bytes) -> SensitiveBytes:
        """A key itself. Raises as `RootWrapping.unwrap`, AUDIT_RECORD_REFUSED when the database has lost it."""
        material = self._opened.get(key_id)
        if material is None:
            stored = self._store.service_key(key_id)
            if stored is None:
                raise _missing()
            material = self._opened[key_id] = self._wrapping.unwrap(stored.purpose, stored.wrapped)
        return material

    def rewrap(self, below_root_version: int, limit: int) -> int:
        """Has keys wrapped anew until crypto has shown, in this process, that each is under this version of the root
        key or a newer one, and answers how many it was. Raises what `RootWrapping.rewrap` does, and
        AUDIT_RECORD_REFUSED when the database has lost one.

        Old versions are destroyed by what this answers, so it asks nothing of what the database says of versions.
        """
        if not limit:
            return 0
        left = [key for key in self._store.service_keys() if not self._is_shown(key, below_root_version)]
        for key in left[:limit]:
            wrapped = self._wrapping.rewrap(key.purpose, key.wrapped)
            self._store.replace_service_key(replace(key, wrapped=wrapped.blob, root_version=wrapped.root_version))
            self._shown[key.key_id] = wrapped
        missing = self._store.missing_service_keys() if not left else ()
        if missing:
            raise _missing()
        return len(left[:limit])

    def _is_shown(self, key: ServiceKey, root_version: int) -> bool:
        shown = self._shown.get(key.key_id)
        return shown is not None and shown.blob == key.wrapped and shown.root_version >= root_version

    def count_below(self, root_version: int) -> int:
        """How many are under versions of the root key below this one, by what the database says."""
        return self._store.count_service_keys_below(root_version)


def _missing() -> StrongroomError:
    return StrongroomError(Reason.AUDIT_RECORD_REFUSED, "a key is missing from the audit database")


class Renewal:
    """Runs what gets keys ready: four times a second until each has succeeded, then once a minute."""

    def __init__(self, renewals: Sequence[Callable[[], None]]) -> None:
        self._renewals = renewals
        self._tried = threading.Event()
        self._work = Background(
            "service-keys",
            self._renew,
            "the keys of the audit log could not be unwrapped or renewed",
            every=_CHECK_SECONDS,
            again=_RETRY_SECONDS,
        )

    def start(self, wait_seconds: float = 0.0) -> None:
        """Begins, unless it has; returns once each was tried, after so long at the latest."""
        if not self._work.has_begun:
            self._work.start()
        self._tried.wait(wait_seconds)

    def stop(self, wait_seconds: float = 2.0) -> None:
        """Ends; returns once the one under way has ended, after so long at the latest."""
        self._work.stop(wait_seconds)

    def _renew(self) -> None:
        try:
            background.each(self._renewals)
        finally:
            self._tried.set()
