"""A cache that tenants share: what one of them fills it with is what that one loses."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# Of the largest share, when the cache is full: so that making room is rare.
_FREED = 8


class _Share(Generic[K, V]):
    __slots__ = ("entries", "size")

    def __init__(self) -> None:
        self.entries: dict[K, tuple[V, int]] = {}
        self.size = 0

    def take(self, key: K) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.size -= entry[1]


class SharedCache(Generic[K, V]):
    """Entries by tenant and key, each with about how many bytes it takes. Beyond `capacity` bytes in all, the oldest
    entries of the tenant with the most bytes leave."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._shares: dict[str, _Share[K, V]] = {}
        self._lock = threading.Lock()
        self._size = 0

    @property
    def size(self) -> int:
        """About how many bytes the entries take."""
        return self._size

    def size_of(self, tenant: str) -> int:
        """About how many bytes the entries of one tenant take."""
        share = self._shares.get(tenant)
        return share.size if share is not None else 0

    def get(self, tenant: str, key: K) -> V | None:
        """What is kept under the key."""
        share = self._shares.get(tenant)
        entry = share.entries.get(key) if share is not None else None
        return entry[0] if entry is not None else None

    def put(self, tenant: str, key: K, value: V, size: int) -> None:
        """Keeps a value of about so many bytes."""
        with self._lock:
            share = self._shares.setdefault(tenant, _Share())
            before = share.size
            share.take(key)
            share.entries[key] = (value, size)
            share.size += size
            self._size += share.size - before
            self._make_room()

    def drop(self, tenant: str, key: K) -> None:
        """Forgets what is kept under the key."""
        with self._lock:
            share = self._shares.get(tenant)
            if share is not None:
                before = share.size
                share.take(key)
                self._size += share.size - before

    def grow(self, tenant: str, key: K, size: int) -> None:
        """Notes that a value that is kept has become so many bytes larger."""
        share = self._shares.get(tenant)
        entry = share.entries.get(key) if share is not None else None
        if entry is not None:
            self.put(tenant, key, entry[0], entry[1] + size)

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._shares.clear()
            self._size = 0

    def _make_room(self) -> None:
        while self._size > self._capacity:
            tenant, share = max(self._shares.items(), key=lambda one: one[1].size)
            before, wanted = share.size, share.size - share.size // _FREED
            while share.entries and (share.size >= wanted or self._size - before + share.size > self._capacity):
                share.take(next(iter(share.entries)))
            self._size += share.size - before
            if not share.entries:
                del self._shares[tenant]
