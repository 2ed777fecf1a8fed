"""Data keys that the same caller opened a moment ago.

A secret that is read many times a second would otherwise have crypto open its data key, and record that, as often.
Nothing is kept for longer than the second within which a disabled key or a changed policy takes effect anyway, and
nothing is shared between principals or sessions: each asks crypto for itself. Calls of the same caller that want the
same data key at once make one request, and where the data key is in use that is made ahead, while others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from services.runtime.call import Call, Principal
from services.runtime.errors import StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.values.data_keys import DataKey, DataKeys

KEPT_SECONDS = 0.8
"""Less than a second, with room for the time that crypto itself may be behind."""

_AHEAD_SECONDS = 0.3
_CAPACITY = 10_000

_Opening = tuple[Principal, str, str, ResourceName, bytes]


class _UnderWay:
    """A request that was made already, for others that want the same."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.failure: StrongroomError | None = None


class RecentDataKeys:
    """Data keys that were opened a moment ago, from memory; others from where they come from."""

    def __init__(self, data_keys: DataKeys, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._data_keys = data_keys
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._opened: dict[_Opening, tuple[SensitiveBytes, float]] = {}
        self._under_way: dict[_Opening, _UnderWay] = {}

    def generate(self, call: Call, key: str, version: ResourceName) -> DataKey:
        """A new data key for `version` under `key`."""
        return self._data_keys.generate(call, key, version)

    def open(self, call: Call, ciphertext: bytes, version: ResourceName) -> SensitiveBytes:
        """The data key of `version`."""
        # With all that crypto would have decided by, what narrows the session included; and with the ciphertext itself:
        # what else the database holds by now is not taken for what it was.
        opening = (call.principal, call.source_address, call.via_service, version, ciphertext)
        while True:
            known = self._opened.get(opening)
            left = known[1] - self._monotonic() if known is not None else 0.0
            if known is not None and left > (0.0 if opening in self._under_way else _AHEAD_SECONDS):
                return known[0]
            with self._lock:
                others = self._under_way.get(opening)
                if others is None:
                    mine = self._under_way[opening] = _UnderWay()
            if others is None:
                return self._open(call, opening, mine)
            others.ended.wait()
            # What it came to may be too old by now for who waited; why it failed is not.
            if others.failure is not None:
                raise others.failure.renewed()

    def open_many(
        self, call: Call, wanted: Sequence[tuple[bytes, ResourceName]]
    ) -> list[SensitiveBytes | StrongroomError]:
        """The data keys of many versions, in their order; in the place of each that cannot be had what `open` would
        raise."""
        return self._data_keys.open_many(call, wanted)

    def _open(self, call: Call, opening: _Opening, mine: _UnderWay) -> SensitiveBytes:
        *_, version, ciphertext = opening
        # From when it was asked for, not from when it was answered.
        until = self._monotonic() + KEPT_SECONDS
        try:
            opened = self._data_keys.open(call, ciphertext, version)
        except BaseException as error:
            # Not the error itself: each who waited would add where it was raised, and keep what was in work there.
            mine.failure = error.renewed() if isinstance(error, StrongroomError) else None
            self._end(opening)
            raise
        else:
            self._end(opening, (opened, until))
            return opened
        finally:
            mine.ended.set()

    def _end(self, opening: _Opening, opened: tuple[SensitiveBytes, float] | None = None) -> None:
        with self._lock:
            del self._under_way[opening]
            if opened is None:
                return
            if len(self._opened) >= _CAPACITY:
                now = self._monotonic()
                self._opened = {key: entry for key, entry in self._opened.items() if now < entry[1]}
            self._opened[opening] = opened
