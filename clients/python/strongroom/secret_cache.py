"""Values of secrets at hand: read often, fetched seldom, and new within a second of a change."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from strongroom.calls.secrets.records import SecretValue
from strongroom.calls.secrets.watch import SecretChange, SecretWatch
from strongroom.errors import AWAY, StrongroomError
from strongroom.fetches import Fetches
from strongroom.streams import pause_after

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_MAX_WATCHED = 1000
# Secrets that are first read one after the other begin one watch.
_GATHER_SECONDS = 0.05


class Values(Protocol):
    """What a cache needs of secrets."""

    def get_value(
        self, secret: str, *, stage: str = "", version: int = 0, field: str = "", timeout: float | None = None
    ) -> SecretValue:
        """The value of a version, or of the one at a stage."""

    def watch(self, secrets: Sequence[str], *, resume_token: str = "") -> SecretWatch:
        """The changes of these secrets, from now on or from where a token is."""


class Source(Protocol):
    """What a cache needs of a client."""

    @property
    def secrets(self) -> Values:
        """Its calls of the secrets service."""


@dataclass(slots=True)
class _Entry:
    value: SecretValue
    refresh_at: float
    """From then on it is fetched again, beside the reads that still get this value."""
    expires_at: float
    """From then on a read waits for a fetch."""
    stale_until: float
    """Until then it is answered where no fetch succeeds because the service is away."""


class SecretCache:
    """Current values of secrets, shared between threads; a context manager.

    - `ttl`: how long a value is answered without asking, in seconds.
    - `refresh_ahead`: how long before its end it is fetched anew, so that no read waits.
    - `max_stale`: how long after its end a value is still answered while the service cannot be reached. What the
      service refuses (the permission is gone, the version disabled, the secret deleted) is never answered stale.
    - `watch`: follow `WatchSecret`, so that a new version, a disabled one or a deletion is seen within a second; of
      the first 1,000 secrets.

    Concurrent reads of a secret that is not there make one fetch.
    """

    def __init__(
        self,
        client: Source,
        *,
        ttl: float = 300.0,
        refresh_ahead: float = 30.0,
        max_stale: float = 3600.0,
        watch: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secrets = client.secrets
        self._ttl = ttl
        self._refresh_ahead = min(refresh_ahead, ttl)
        self._max_stale = max_stale
        self._monotonic = monotonic
        self._entries: dict[str, _Entry] = {}
        self._fetches: Fetches[str, SecretValue] = Fetches("secret-refresh")
        self._generations: dict[str, int] = {}
        self._lock = threading.Lock()
        self._follower = _Follower(client.secrets, self._changed) if watch else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, secret: str) -> SecretValue:
        """The value at Current. Raises what `client.secrets.get_value` does."""
        entry = self._entries.get(secret)
        if entry is not None:
            now = self._monotonic()
            if now < entry.refresh_at:
                return entry.value
            if now < entry.expires_at:
                self._fetches.beside(secret, self._fetched)
                return entry.value
        value, _ = self._fetches.wait(secret, self._fetched)
        return value

    def close(self) -> None:
        """Forgets every value and ends the watch."""
        if self._follower is not None:
            self._follower.close()
        with self._lock:
            self._entries.clear()

    def _fetched(self, secret: str) -> SecretValue:
        """The value from the service; while that is away the one at hand, as long as that may be."""
        generation = self._generations.get(secret, 0)
        try:
            value = self._secrets.get_value(secret)
        except StrongroomError as error:
            stale = self._after(error, secret)
            if stale is None:
                raise
            return stale
        now = self._monotonic()
        with self._lock:
            # One that was told to be outdated while it was fetched is answered once and not kept.
            if self._generations.get(secret, 0) == generation:
                end = now + self._ttl
                self._entries[secret] = _Entry(value, end - self._refresh_ahead, end, end + self._max_stale)
        if self._follower is not None:
            self._follower.follow(value.name.partition("/versions/")[0], secret)
        return value

    def _after(self, error: StrongroomError, secret: str) -> SecretValue | None:
        """What is answered after a fetch that failed."""
        entry = self._entries.get(secret)
        if error.code.name not in AWAY:
            with self._lock:
                self._entries.pop(secret, None)
        elif entry is not None and self._monotonic() < entry.stale_until:
            log.warning("secret answered from the cache: %s", error.reason)
            # Not asked again by every read.
            entry.refresh_at = entry.expires_at = max(entry.expires_at, self._monotonic() + _RETRY_SECONDS)
            return entry.value
        return None

    def _changed(self, secret: str, current: int) -> None:
        """Something is new of a secret whose Current is at this version; 0 where its values must be forgotten."""
        with self._lock:
            entry = self._entries.get(secret)
            if entry is not None and current and entry.value.name.endswith(f"/versions/{current}"):
                return
            self._generations[secret] = self._generations.get(secret, 0) + 1
            self._entries.pop(secret, None)


class _Follower:
    """The watch of every secret that a cache holds, on a thread of its own; begun anew when another joins."""

    def __init__(self, secrets: Values, changed: Callable[[str, int], None]) -> None:
        self._secrets = secrets
        self._changed = changed
        self._asked: dict[str, set[str]] = {}
        """What callers call each secret, by its full name."""
        self._watch: SecretWatch | None = None
        self._token = ""
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="secret-watch", daemon=True)
        self._thread.start()

    def follow(self, name: str, asked: str) -> None:
        """Follows a secret too."""
        with self._lock:
            called = self._asked.setdefault(name, set())
            is_new = not called
            called.add(asked)
            watch = self._watch if is_new else None
            if is_new:
                # A token is for changes; of the new one the state must be told first.
                self._token = ""
        if watch is not None:
            watch.close()
        self._wanted.set()

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()
        self._wanted.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.close()

    def _follow(self) -> None:
        while not self._closed.is_set():
            self._wanted.wait()
            if self._closed.wait(_GATHER_SECONDS):
                return
            try:
                self._read()
            except StrongroomError as error:
                log.warning("watch of secrets ended: %s", error.reason)
                self._closed.wait(pause_after(error, _RETRY_SECONDS))
            except Exception:
                # Without a watch values would be as old as they may be kept, and nobody would know.
                log.exception("watch of secrets ended unexpectedly; it is begun again")
                self._closed.wait(_RETRY_SECONDS)

    def _read(self) -> None:
        with self._lock:
            watch = self._watch = self._secrets.watch(sorted(self._asked)[:_MAX_WATCHED], resume_token=self._token)
        for change in watch:
            self._tell(change)

    def _tell(self, change: SecretChange) -> None:
        with self._lock:
            called = list(self._asked.get(change.name, ()))
            self._token = change.resume_token or self._token
        gone = change.change == "DELETED" or (
            change.change == "VERSION_DISABLED" and change.version == change.stages.get("Current")
        )
        for secret in called:
            self._changed(secret, 0 if gone else change.stages.get("Current", 0))
