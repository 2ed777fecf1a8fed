"""What is due of keys: soonest first, and however much one account has due, the others' is among it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, insert

from services.keystore.store import due
from services.keystore.store.due import DueKey
from services.keystore.store.tables import key_versions, keys
from services.runtime.storage.database import reading, transaction
from strongroom.keystore.v1 import key_pb2 as k

NOW = 1_700_000_000_000_000
KEY = {
    "spec": k.KEY_SPEC_AES_256,
    "usage": k.KEY_USAGE_ENCRYPT_DECRYPT,
    "origin": k.KEY_ORIGIN_EXTERNAL,
    "protection_level": k.PROTECTION_LEVEL_SOFTWARE,
    "state": k.KEY_STATE_ENABLED,
    "description": "",
    "tags": "{}",
    "deletion_protection": False,
    "primary_version": 1,
    "revision": 1,
    "created_us": 1,
    "updated_us": 1,
    "rotated_us": 1,
}
VERSION = {
    "version": 1,
    "state": k.KEY_VERSION_STATE_PENDING_DESTRUCTION,
    "origin": k.KEY_VERSION_ORIGIN_MANUAL,
    "root_version": 1,
    "created_us": 1,
    "message_count": 0,
}
DUE: tuple[Callable[[Connection, int, int, int | None], list[DueKey]], ...] = (
    due.deletions_due,
    due.rotations_due,
    due.expiries_due,
    due.destructions_due,
)


@pytest.fixture
def due_keys(engine: Engine) -> Engine:
    """A hundred of one account, and two of another that are due later than these."""
    with transaction(engine) as connection:
        for number in range(102):
            account, uid, at = "greedy" if number < 100 else "other", number.to_bytes(16, "big"), NOW - 1_000 + number
            named = {"account": account, "key_id": f"k-{number}", "uid": uid}
            connection.execute(insert(keys).values(**KEY, **named, delete_us=at, next_rotate_us=at))
            connection.execute(insert(key_versions).values(**VERSION, uid=uid, expires_us=at, destroyed_us=at))
    return engine


@pytest.mark.parametrize("found", DUE)
def test_the_soonest_come_first(
    due_keys: Engine, found: Callable[[Connection, int, int, int | None], list[DueKey]]
) -> None:
    with reading(due_keys) as connection:
        soonest = found(connection, NOW, 10, None)
        assert [(key.account, key.due_us) for key in soonest] == [("greedy", NOW - 1_000 + n) for n in range(10)]
        assert len(found(connection, NOW - 1_000 + 50, 1_000, None)) == 51
        assert len({key.uid for key in found(connection, NOW, 1_000, None)}) == 102


@pytest.mark.parametrize("found", DUE)
def test_what_one_account_has_due_hides_nobody_elses(
    due_keys: Engine, found: Callable[[Connection, int, int, int | None], list[DueKey]]
) -> None:
    with reading(due_keys) as connection:
        shared = found(connection, NOW, 10, 8)
    assert [key.account for key in shared] == [*["greedy"] * 8, "other", "other"]
