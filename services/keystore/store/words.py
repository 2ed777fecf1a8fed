"""The words that columns of keys and their versions are written in: numbers of the contract's enumerations."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import RowMapping

from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1.key_pb2 import (
    KeyOrigin,
    KeySpec,
    KeyState,
    KeyUsage,
    KeyVersionOrigin,
    KeyVersionState,
    ProtectionLevel,
)

Words = Mapping[str, Collection[int]]
"""Columns, and what each may have."""

OF_KEYS: Words = {
    "spec": frozenset(KeySpec.values()),
    "usage": frozenset(KeyUsage.values()),
    "protection_level": frozenset(ProtectionLevel.values()),
    "state": frozenset(KeyState.values()),
    "origin": frozenset(KeyOrigin.values()),
}
OF_VERSIONS: Words = {
    "state": frozenset(KeyVersionState.values()),
    "origin": frozenset(KeyVersionOrigin.values()),
    # Not sealed, and no number of the contract's beyond that.
    "root_version": range(1 << 31),
}


def require_known(stored: RowMapping, words: Words) -> None:
    """Raises KEY_MATERIAL_REFUSED for what this release has no word for, as a newer one may have written it."""
    for name, known in words.items():
        if stored[name] not in known:
            raise StrongroomError(Reason.KEY_MATERIAL_REFUSED, f"what is stored of a key is no {name} that there is")
