"""Data keys that the same caller opened a moment ago.

A secret that is read many times a second would otherwise have crypto open its data key, and record that, as often.
Nothing is kept for longer than the second within which a disabled key or a changed policy takes effect anyway, and
nothing is shared between principals or sessions: each asks crypto for itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from services.runtime.call import Call, Principal
from services.runtime.errors import StrongroomError
from services.runtime.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.data_keys import DataKey, DataKeys

KEPT_SECONDS = 0.8
"""Less than a second, with room for the time that crypto itself may be behind."""

_CAPACITY = 10_000

_Opening = tuple[Principal, str, str, ResourceName, bytes]


class RecentDataKeys:
    """See DataKeys."""

    def __init__(self, data_keys: DataKeys, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._data_keys = data_keys
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._opened: dict[_Opening, tuple[SensitiveBytes, float]] = {}

    def generate(self, call: Call, key: str, version: ResourceName) -> DataKey:
        """See DataKeys."""
        return self._data_keys.generate(call, key, version)

    def open(self, call: Call, ciphertext: bytes, version: ResourceName) -> SensitiveBytes:
        """See DataKeys."""
        # With all that crypto would have decided by, what narrows the session included; and with the ciphertext itself:
        # what else the database holds by now is not taken for what it was.
        opening = (call.principal, call.source_address, call.via_service, version, ciphertext)
        now = self._monotonic()
        known = self._opened.get(opening)
        if known is not None and now < known[1]:
            return known[0]
        opened = self._data_keys.open(call, ciphertext, version)
        with self._lock:
            if len(self._opened) >= _CAPACITY:
                self._opened = {key: entry for key, entry in self._opened.items() if now < entry[1]}
            # From when it was asked for, not from when it was answered.
            self._opened[opening] = (opened, now + KEPT_SECONDS)
        return opened

    def open_many(
        self, call: Call, wanted: Sequence[tuple[bytes, ResourceName]]
    ) -> list[SensitiveBytes | StrongroomError]:
        """See DataKeys."""
        return self._data_keys.open_many(call, wanted)
