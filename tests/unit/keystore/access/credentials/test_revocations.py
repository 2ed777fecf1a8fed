"""Sessions that end one by one, on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Engine

from services.keystore.access.credentials.revocations import MAX_ENDED, Revocations
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.records import store
from services.keystore.settings import Bootstrap
from services.keystore.work.bootstrap import make_account
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call, Principal
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import open_database, reading
from services.runtime.storage.outbox import Outbox
from tests.support import databases
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.support.sealing import sealed

ROOT = "accounts/main/users/root"
HOUR_US = 3_600_000_000


@dataclass
class World:
    """An account with its administrator, whose sessions last an hour."""

    engine: Engine
    clock: StillClock
    revocations: Revocations

    def revoke(self, *session_ids: str) -> None:
        expires = (self.clock.now_us() + HOUR_US) / 1e6
        caller = Principal(ROOT, "main", session_ids=session_ids, expires=expires if session_ids else 0.0)
        self.revocations.revoke_own(Call("test", "Test", "access:Test", principal=caller))

    @property
    def ended(self) -> list[str]:
        with reading(self.engine) as connection:
            record = store.principal(connection, ROOT)
        return list(record.ended_sessions) if record is not None else []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = sealed(open_database(Database(url=f"sqlite:///{tmp_path / 'keystore.db'}")))
    databases.migrate(engine, "keystore")
    clock, outbox = StillClock(1_800_000_000_000_000), Outbox(engine, cast(AuditClient, None))
    bootstrap = Bootstrap(account="main", administrator="root", administrator_spiffe_id="spiffe://strongroom.local/u")
    make_account(engine, bootstrap, outbox, clock)
    editor = AccessEditor(engine, cast(Authorizer, Everybody()), outbox, clock)
    yield World(engine, clock, Revocations(editor))
    engine.dispose()


def test_a_session_ends_alone_and_the_one_it_was_begun_from_goes_on(world: World) -> None:
    world.revoke("one", "before")
    world.revoke("two")
    assert world.ended == ["one", "two"]


def test_what_comes_by_no_session_is_told_so(world: World) -> None:
    with pytest.raises(StrongroomError) as caught:
        world.revoke()
    assert caught.value.reason is Reason.UNAUTHENTICATED
    assert world.ended == []


def test_they_are_as_many_as_fit_and_are_forgotten_once_they_would_have_ended(world: World) -> None:
    for number in range(MAX_ENDED):
        world.revoke(f"session-{number}")
    with pytest.raises(StrongroomError) as caught:
        world.revoke("one-more")
    assert (caught.value.reason, len(world.ended)) == (Reason.LIMIT_EXCEEDED, MAX_ENDED)
    world.clock.us += HOUR_US
    with pytest.raises(StrongroomError):
        world.revoke("within the difference of clocks")
    world.clock.us += 61_000_000
    world.revoke("one-more")
    assert world.ended == ["one-more"]
