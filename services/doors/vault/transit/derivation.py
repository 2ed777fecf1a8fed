"""Derived keys: those that do nothing without a context. In Vault each context has a key of its own; in the mesh it is
bound to the ciphertext, which opens with that context alone."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from services.doors.mesh.calls import Mesh
from services.doors.mesh.remembering import remember
from services.doors.mesh.sessions import Caller
from services.doors.vault import errors
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1.key_pb2 import Key
from strongroom.keystore.v1.key_service_pb2 import GetKeyRequest

TAG, _YES = "vault-derived", "true"
_MISSING = "missing 'context' for key derivation; the key was created using a derived key: each request has one"
_KNOWN = 4096
_KNOWN_SECONDS = 60.0
# Each such look is an event of a denial.
_DENIED_SECONDS = 3600.0


def tags_of(*, derived: bool) -> dict[str, str]:
    """The tags of a new key, by which it is known to be derived."""
    return {TAG: _YES} if derived else {}


def is_derived(key: Key) -> bool:
    """Whether a key is."""
    return bool(key.tags.get(TAG) == _YES)


class Derivation:
    """Requires a context for what is done with derived keys, of callers who may know which those are.

    What a key is its own record says. A door looks at it for callers that it has shown or made a key for: of one who
    only encrypts each look would be a denial in the audit log.
    """

    def __init__(self, mesh: Mesh, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._mesh = mesh
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._shown: OrderedDict[str, None] = OrderedDict()
        # By principal, so that nobody learns what only others may know.
        self._known: OrderedDict[tuple[str, str], tuple[bool, float]] = OrderedDict()

    def shown(self, caller: Caller, key: Key) -> None:
        """The mesh has shown the caller a key."""
        with self._lock:
            remember(self._shown, caller.session.principal, None, _KNOWN)
        self._remember(caller, key.name, derived=is_derived(key), seconds=_KNOWN_SECONDS)

    def require_context(self, caller: Caller, name: str, given: dict[str, Any]) -> None:
        """Raises HttpError 400 where a request gives a derived key no context, StrongroomError."""
        if not given.get("context") and self._is_derived(caller, name):
            raise errors.invalid(_MISSING)

    def _is_derived(self, caller: Caller, name: str) -> bool:
        with self._lock:
            if caller.session.principal not in self._shown:
                return False
            found = self._known.get((caller.session.principal, name))
        if found is not None and self._monotonic() < found[1]:
            return found[0]
        return self._looked(caller, name)

    def _looked(self, caller: Caller, name: str) -> bool:
        try:
            key: Key = self._mesh.ask(caller, "GetKey", GetKeyRequest(name=name))
        except StrongroomError as error:
            if error.reason is Reason.PERMISSION_DENIED:
                self._remember(caller, name, derived=False, seconds=_DENIED_SECONDS)
            elif error.reason is not Reason.KEY_NOT_FOUND:
                raise
            return False
        self.shown(caller, key)
        return is_derived(key)

    def _remember(self, caller: Caller, name: str, *, derived: bool, seconds: float) -> None:
        with self._lock:
            found = (derived, self._monotonic() + seconds)
            remember(self._known, (caller.session.principal, name), found, _KNOWN)
