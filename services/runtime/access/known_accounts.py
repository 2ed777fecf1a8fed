"""Accounts as they were read, each the same object for as long as its record is the same: what was decided by it holds
when it is read again, and keeps no copy of it in memory for each time that it was."""

from __future__ import annotations

from hashlib import sha256
from weakref import WeakValueDictionary

from services.runtime.access.cedar import Parsed
from services.runtime.access.decisions import Account
from strongroom.access.v1.access_record_service_pb2 import AccountAccess


class KnownAccounts:
    """Those that somebody still has."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._known: WeakValueDictionary[str, Account] = WeakValueDictionary()

    def as_read(self, access: AccountAccess) -> Account:
        """The account of a record."""
        digest = sha256(access.SerializeToString(deterministic=True)).digest()
        known = self._known.get(access.account)
        if known is None or known.digest != digest:
            known = self._known[access.account] = Account(access, self._parsed, digest)
        return known

    def forget(self, name: str) -> None:
        """Has an account made anew when it is read the next time."""
        self._known.pop(name, None)
