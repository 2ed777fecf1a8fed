"""Whether callers may still do anything, where a door answers without a call to the mesh that would say so."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

from services.doors.mesh.remembering import remember
from services.doors.mesh.sessions import Caller

# A credential that was revoked is refused within a second; the mesh itself needs a part of it.
_FRESH_SECONDS = 0.5
_REMEMBERED = 4096


class Confirmations:
    """Asks the mesh who a caller is, at most twice a second for each."""

    def __init__(self, identify: Callable[[Caller], object], monotonic: Callable[[], float] = time.monotonic) -> None:
        """`identify` raises StrongroomError for a session that the mesh does not know, or not any more."""
        self._identify = identify
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asked_at: OrderedDict[bytes, float] = OrderedDict()

    def require(self, caller: Caller) -> None:
        """Raises StrongroomError for a caller whose session or client key is worth nothing."""
        now = self._monotonic()
        with self._lock:
            asked_at = self._asked_at.get(_digest(caller))
        if asked_at is not None and now - asked_at < _FRESH_SECONDS:
            return
        self._identify(caller)
        # By the session that was confirmed: one that stands for a client key may have been begun again.
        digest = _digest(caller)
        with self._lock:
            remember(self._asked_at, digest, now, _REMEMBERED)


def _digest(caller: Caller) -> bytes:
    return blake2b(caller.session.token.encode(), digest_size=16).digest()
