"""Audit's database in the hands of somebody else: no event reaches whom it was not for, and what cannot be read any
more is noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from sqlalchemy import Engine, delete, select, update

from services.audit.keys.service_keys import TOMBSTONES
from services.audit.logs.logs import OpenLog
from services.audit.reading.events import Period, Query
from services.audit.storage.tables import sealing_keys, service_keys
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from tests.support.audit_logs import event


def reason_of(work: Callable[[], object]) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        work()
    return refused.value.reason


def change(engine: Engine, *statements: Any) -> None:
    with database.transaction(engine) as connection:
        for statement in statements:
            connection.execute(statement)


def looked(log: OpenLog) -> Reason | None:
    """What the inspection of a freshly started log says."""
    log.key_inspection.look()
    try:
        log.key_inspection.check()
    except StrongroomError as error:
        return error.reason
    return None


def of(account: str) -> Any:
    return sealing_keys.c.account == account


@pytest.fixture
def log(open_log: OpenLog, open_again: Callable[[], OpenLog]) -> OpenLog:
    """With an event of acme's and one of other's, in a process that has no key in memory."""
    open_log.log.append([event(), event("other")])
    return open_again()


def event_of(log: OpenLog, account: str) -> str:
    ((found, *_), _) = log.events.page(Query(account), Period(), None, 10, newest_first=True)
    return found.id


@pytest.mark.parametrize("bound", [True, False])
def test_a_key_moved_to_another_account_opens_nothing_for_it(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine, bound: bool
) -> None:
    theirs = event_of(log, "acme")
    if not bound:
        # As releases before kept it: nothing in it says whose it is.
        unbind(log, engine)
    change(engine, update(sealing_keys).where(of("acme")).values(account="other"))
    again = open_again()
    assert reason_of(lambda: again.events.get("other", theirs)) in (
        Reason.AUDIT_RECORD_REFUSED,
        Reason.EVENT_NOT_FOUND,
    )
    assert reason_of(lambda: again.events.get("acme", theirs)) is Reason.EVENT_NOT_FOUND
    page, _ = again.events.page(Query("other"), Period(), None, 10, newest_first=True)
    assert {found.account for found in page} == {"other"}
    if bound:
        assert looked(again) is Reason.AUDIT_RECORD_REFUSED


def unbind(log: OpenLog, engine: Engine) -> None:
    """Puts acme's key into the form that releases before had."""
    with database.reading(engine) as connection:
        row = connection.execute(select(sealing_keys).where(of("acme"))).one()
    (key,) = [key for key in log.key_inspection._keys.sealing_keys_after(b"", 9) if key.key_id == row.key_id]
    material = log.key_inspection._sealer._material(key)
    assert material is not None
    wrapped = aes_key_wrap(log.service_keys.open(key.root_id).reveal(), material)
    change(engine, update(sealing_keys).where(of("acme")).values(wrapped=wrapped))


def test_keys_of_releases_before_are_bound_and_open_as_before(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine
) -> None:
    theirs = event_of(log, "acme")
    unbind(log, engine)
    assert open_again().events.get("acme", theirs).id == theirs
    assert looked(open_again()) is None
    with database.reading(engine) as connection:
        wrapped = connection.execute(select(sealing_keys.c.wrapped).where(of("acme"))).scalar_one()
    assert wrapped[:1] == b"\x02"
    assert open_again().events.get("acme", theirs).id == theirs


@pytest.mark.parametrize(
    "statement",
    [
        delete(sealing_keys).where(of("acme")),
        update(sealing_keys).where(of("acme")).values(wrapped=b""),
        update(sealing_keys).where(of("acme")).values(wrapped=b"\x00" + bytes(28)),
        update(sealing_keys).where(of("acme")).values(wrapped=b"\x02" + bytes(60)),
        update(sealing_keys).where(of("acme")).values(wrapped=bytes(40)),
        update(sealing_keys).where(of("acme")).values(root_id=bytes(16)),
        update(sealing_keys).where(of("acme")).values(key_id=bytes(16)),
    ],
)
def test_a_key_that_is_gone_without_a_shred_is_not_taken_for_shredded_and_is_noticed(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine, statement: Any
) -> None:
    theirs = event_of(log, "acme")
    assert looked(log) is None
    change(engine, statement)
    again = open_again()
    assert looked(again) is Reason.AUDIT_RECORD_REFUSED
    assert reason_of(lambda: again.events.get("acme", theirs)) in (
        Reason.AUDIT_RECORD_REFUSED,
        Reason.EVENT_NOT_FOUND,
    )
    # Others' go on.
    assert again.events.get("other", event_of(again, "other")).account == "other"


def test_the_proof_of_one_shred_is_none_of_another(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine
) -> None:
    assert looked(log) is None
    log.retention.shred("acme", None)
    theirs = event_of(log, "other")
    with database.reading(engine) as connection:
        tombstone = connection.execute(select(sealing_keys.c.wrapped).where(of("acme"))).scalar_one()
    assert looked(open_again()) is None
    change(engine, update(sealing_keys).where(of("other")).values(wrapped=tombstone))
    again = open_again()
    assert reason_of(lambda: again.events.get("other", theirs)) is Reason.AUDIT_RECORD_REFUSED
    assert looked(again) is Reason.AUDIT_RECORD_REFUSED


def test_what_releases_before_destroyed_counts_as_destroyed(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine
) -> None:
    theirs = event_of(log, "acme")
    change(
        engine,
        update(sealing_keys).where(of("acme")).values(wrapped=b""),
        delete(service_keys).where(service_keys.c.purpose == TOMBSTONES),
    )
    again = open_again()
    assert looked(again) is None
    assert reason_of(lambda: again.events.get("acme", theirs)) is Reason.EVENT_SHREDDED
