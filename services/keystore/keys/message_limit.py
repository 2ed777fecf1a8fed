"""How many messages a key version has encrypted, and the end of that (docs/keys.md, "Messages")."""

from __future__ import annotations

from sqlalchemy import Connection

from services.keystore.store import changes, store
from services.keystore.store.model import Key, Version
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_KEY

LIMIT = 1 << 32
"""Messages of a version, with nonces that are random and 96 bits long."""
NEAR = LIMIT - (1 << 24)
"""From here on a new version is made; what is left lasts until it is there."""


def reserve(connection: Connection, key: Key, version: Version, count: int, now_us: int) -> int:
    """Counts messages before they are encrypted; how many of them may be. The version is retired with the last."""
    granted = min(count, LIMIT - version.message_count)
    if granted <= 0:
        return 0
    last = version.message_count + granted == LIMIT
    store.count_messages(connection, version, granted, now_us if last else None)
    if last:
        changes.note(connection, CHANGE_KIND_KEY, str(key.name), key.name.account, key.uid)
    return granted
