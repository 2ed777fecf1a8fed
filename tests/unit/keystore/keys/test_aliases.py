"""What changes of aliases leave behind, on a real database."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from sqlalchemy import Engine, func, select

from services.keystore.keys.aliases import AliasContent, Aliases
from services.keystore.store import alias_store, changes, store
from services.keystore.store.model import Key
from services.keystore.store.tables import outbox
from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from strongroom.audit.v1.event_pb2 import Event
from strongroom.keystore.v1 import key_pb2 as k
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody

ALIAS = ResourceName("acme", "aliases", "current")
KEYS = [ResourceName("acme", "keys", id_) for id_ in ("a", "b", "c")]
NOW = 1_800_000_000_000_000


def call() -> Call:
    return Call("test", "Test", "keystore:Test", principal=Caller("accounts/acme/users/ann", "acme"))


@pytest.fixture
def aliases(engine: Engine) -> Aliases:
    """The aliases of an account with three keys, of which one has one."""
    with transaction(engine) as connection:
        for number, name in enumerate(KEYS):
            enabled, spec, usage = k.KEY_STATE_ENABLED, k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT
            level, origin = k.PROTECTION_LEVEL_SOFTWARE, k.KEY_ORIGIN_STRONGROOM
            uid = bytes([number + 1] * 16)
            key = Key(name, uid, spec, usage, level, origin, enabled, "", {}, False, 1, 1, NOW, NOW, NOW)
            store.insert_key(connection, key)
    made = of(engine, Everybody())
    made.create(call(), AliasContent(ALIAS, KEYS[0], "first"))
    return made


def of(engine: Engine, authorizer: object) -> Aliases:
    return Aliases(engine, cast(Authorizer, authorizer), Outbox(engine, cast(AuditClient, None)), StillClock(NOW))


def left(engine: Engine) -> tuple[int, int]:
    """How many changes were numbered, and how many events stored."""
    with reading(engine) as connection:
        events = connection.execute(select(func.count()).select_from(outbox)).scalar_one()
        return changes.current(connection), events


@pytest.mark.parametrize("paths", [("key",), ("description",), ("key", "description")])
def test_an_update_that_changes_nothing_leaves_nothing(
    engine: Engine, aliases: Aliases, paths: tuple[str, ...]
) -> None:
    before = left(engine)
    unchanged = aliases.update(call(), AliasContent(ALIAS, KEYS[0], "first"), paths, "")
    assert (unchanged.key, unchanged.description) == (KEYS[0], "first")
    assert left(engine) == before


def test_what_is_changed_is_numbered_and_recorded(engine: Engine, aliases: Aliases) -> None:
    number, events = left(engine)
    assert aliases.update(call(), AliasContent(ALIAS, KEYS[1], "x"), ("key",), "").key == KEYS[1]
    updated, recorded = left(engine)
    assert (updated, recorded > events) == (number + 1, True)
    aliases.delete(call(), ALIAS, "")
    deleted = left(engine)
    assert (deleted[0], deleted[1] > recorded) == (number + 2, True)


class MovesMeanwhile(Everybody):
    """Permits everything, and has another call move the alias just then."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def authorize(self, call: Call, action: str, resource: Resource, *more: object, **named: object) -> Event:
        with transaction(self._engine) as connection:
            alias = alias_store.alias(connection, ALIAS)
            key = store.key(connection, KEYS[2])
            assert alias is not None
            assert key is not None
            alias_store.update_alias(connection, replace(alias, key=key.name, key_uid=key.uid))
        return super().authorize(call, action, resource)


def test_permission_is_for_the_key_that_the_alias_stood_for(engine: Engine, aliases: Aliases) -> None:
    del aliases
    with pytest.raises(StrongroomError) as refused:
        of(engine, MovesMeanwhile(engine)).update(call(), AliasContent(ALIAS, KEYS[1], ""), ("key",), "")
    assert refused.value.reason is Reason.OVERLOADED
