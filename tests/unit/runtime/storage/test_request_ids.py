"""Request ids over a table: what a call made is told for a day, to the same request of the same caller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, func, select

from services.runtime.call import Call, Principal, SessionScope
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import open_database, transaction
from services.runtime.storage.request_ids import REPEATABLE_US, Repeatable, RequestIds, repeatable, requests_table
from strongroom.keystore.v1.key_service_pb2 import CreateKeyRequest, CreateKeyVersionRequest

METADATA = MetaData()
REQUESTS = requests_table(METADATA)
IDS = RequestIds(REQUESTS)
ID = "00000000-0000-4000-8000-000000000001"
MADE = "accounts/a/keys/k"
ASKED = Repeatable(ID, b"d" * 32)
NOW = 10**15


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(Database(url=f"sqlite:///{tmp_path}/some.db"))
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def by(principal: str, assumed_by: tuple[str, ...] = ()) -> Call:
    """A call of a principal, or of a role that somebody assumed."""
    return Call("s", "m", "a", principal=Principal(principal, "a", scope=SessionScope(assumed_by=assumed_by)))


def test_what_was_made_is_told_for_a_day_and_then_forgotten(engine: Engine) -> None:
    with transaction(engine) as connection:
        assert IDS.made_before(connection, "a", ASKED, NOW) is None
        IDS.remember(connection, "a", ASKED, MADE, NOW)
        assert IDS.made_before(connection, "a", ASKED, NOW + REPEATABLE_US) == MADE
        assert IDS.made_before(connection, "b", ASKED, NOW) is None
        late = NOW + REPEATABLE_US + 1
        assert IDS.made_before(connection, "a", ASKED, late) is None
        IDS.remember(connection, "a", ASKED, "accounts/a/keys/k2", late)
        assert IDS.made_before(connection, "a", ASKED, late) == "accounts/a/keys/k2"
        assert connection.scalar(select(func.count()).select_from(REQUESTS)) == 1


def test_another_request_under_the_same_id_is_refused(engine: Engine) -> None:
    with transaction(engine) as connection:
        IDS.remember(connection, "a", ASKED, MADE, NOW)
        with pytest.raises(StrongroomError) as refused:
            IDS.made_before(connection, "a", Repeatable(ID, b"e" * 32), NOW)
    assert refused.value.reason is Reason.REQUEST_ID_REUSED


def test_a_call_without_an_id_was_never_made_before_and_is_not_remembered(engine: Engine) -> None:
    with transaction(engine) as connection:
        IDS.remember(connection, "a", None, MADE, NOW)
        assert IDS.made_before(connection, "a", None, NOW) is None
        assert connection.scalar(select(func.count()).select_from(REQUESTS)) == 0


def test_an_id_is_one_of_its_caller_and_method() -> None:
    request = CreateKeyRequest(parent="accounts/a", request_id=ID)
    mine = repeatable(request, by("accounts/a/users/u"))
    assert mine == repeatable(request, by("accounts/a/users/u"))
    for other in (by("accounts/a/users/v"), by("accounts/a/users/u", assumed_by=("accounts/b/users/u",))):
        theirs = repeatable(request, other)
        assert mine is not None
        assert theirs is not None
        assert theirs.request_id != mine.request_id
    version = repeatable(CreateKeyVersionRequest(parent="accounts/a", request_id=ID), by("accounts/a/users/u"))
    assert version is not None
    assert mine is not None
    assert version.digest != mine.digest
