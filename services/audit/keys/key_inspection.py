"""Looks through the keys that events are sealed under: for one that was changed, put in another's place or taken away.

The log verifies whether or not its events can be read; this is what notices that they cannot. Some of them at each
look, over and over, so that a long log is gone through by and by.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from services.audit.keys.sealing import Sealer
from services.audit.keys.store import WrappedKeys
from services.runtime.errors import Reason, StrongroomError

log = logging.getLogger(__name__)

_KEYS_AT_ONCE = 2_000
_LEAVES_AT_ONCE = 20_000


class KeyInspection:
    """Of one log."""

    def __init__(self, keys: WrappedKeys, sealer: Sealer, size: Callable[[], int]) -> None:
        self._keys = keys
        self._sealer = sealer
        self._size = size
        self._lock = threading.Lock()
        self._key = b""
        self._leaf = 0
        # Of the pass over everything that is under way, and of the last one.
        self._refused = self._missing = 0
        self.refused_keys = 0
        """Sealing keys that are not what the service wrote."""
        self.unreadable_leaves = 0
        """Leaves whose sealing key has no row, among those that are not archived."""

    def look(self) -> None:
        """One look. Raises what crypto raises, DATABASE_UNAVAILABLE."""
        with self._lock:
            self._look_at_keys()
            self._look_at_leaves()

    def check(self) -> None:
        """Raises AUDIT_RECORD_REFUSED while something is wrong."""
        if self.refused_keys or self.unreadable_leaves:
            raise StrongroomError(
                Reason.AUDIT_RECORD_REFUSED,
                f"{self.refused_keys} sealing keys were changed behind the service's back, and {self.unreadable_leaves}"
                " leaves are sealed under keys that are gone without having been destroyed by it",
            )

    def _look_at_keys(self) -> None:
        found = self._keys.sealing_keys_after(self._key, _KEYS_AT_ONCE)
        for key in found:
            try:
                self._sealer.verify(key)
            except StrongroomError as error:
                if error.reason not in (Reason.AUDIT_RECORD_REFUSED, Reason.KEY_MATERIAL_REFUSED):
                    raise
                self._refused += 1
                fields = {"key": key.key_id.hex(), "account": ascii(key.account)}
                log.error("a sealing key in the database is not what the service wrote", extra={"fields": fields})  # noqa: TRY400
        # Also told before the pass is through.
        self.refused_keys = max(self.refused_keys, self._refused)
        if len(found) == _KEYS_AT_ONCE:
            self._key = found[-1].key_id
        else:
            self._key, self.refused_keys, self._refused = b"", self._refused, 0

    def _look_at_leaves(self) -> None:
        end = min(self._leaf + _LEAVES_AT_ONCE, self._size())
        self._missing += self._keys.without_sealing_key(self._leaf, end)
        self.unreadable_leaves = max(self.unreadable_leaves, self._missing)
        self._leaf = end
        if end >= self._size():
            self._leaf, self.unreadable_leaves, self._missing = 0, self._missing, 0
