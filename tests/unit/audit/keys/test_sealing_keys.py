"""Audit's database in the hands of somebody else: no event reaches whom it was not for, and what cannot be read any
more is noticed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from sqlalchemy import Engine, delete, select, update

from services.audit.keys import sealing_wraps
from services.audit.keys.sealing import sealing_key_of
from services.audit.keys.service_keys import INDEX_KEY, SEALING_ROOT, SIGNING_KEY
from services.audit.keys.store import WrappedKey
from services.audit.logs.logs import OpenLog
from services.audit.reading.events import Period, Query, Unread
from services.audit.reading.usage import DEFAULT_DIMENSIONS, counted
from services.audit.storage.tables import sealing_keys, service_keys
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from tests.support.audit_logs import event, own_call


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


def test_a_key_moved_to_another_account_opens_nothing_for_it(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine
) -> None:
    theirs = event_of(log, "acme")
    change(engine, update(sealing_keys).where(of("acme")).values(account="other"))
    again = open_again()
    assert reason_of(lambda: again.events.get("other", theirs)) in (
        Reason.AUDIT_RECORD_REFUSED,
        Reason.EVENT_NOT_FOUND,
    )
    assert reason_of(lambda: again.events.get("acme", theirs)) is Reason.EVENT_NOT_FOUND
    page, _ = again.events.page(Query("other"), Period(), None, 10, newest_first=True)
    assert {found.account for found in page} == {"other"}
    assert looked(again) is Reason.AUDIT_RECORD_REFUSED


def test_a_key_moved_among_those_of_another_account_is_not_destroyed_with_them(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine
) -> None:
    theirs = event_of(log, "other")
    change(engine, update(sealing_keys).where(of("other")).values(account="acme"))
    again = open_again()
    assert reason_of(lambda: again.retention.shred(own_call(), "acme", None)) is Reason.AUDIT_RECORD_REFUSED
    of_other = sealing_keys.c.key_id == sealing_key_of(again.source.entries(0, 2)[1])
    change(engine, update(sealing_keys).where(of_other).values(account="other"))
    assert open_again().events.get("other", theirs).id == theirs


def test_a_key_that_was_made_older_than_it_is_is_not_destroyed_before_its_time(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine
) -> None:
    theirs = event_of(log, "acme")
    with database.reading(engine) as connection:
        made_us = connection.execute(select(sealing_keys.c.created_us).where(of("acme"))).scalar_one()
    change(engine, update(sealing_keys).where(of("acme")).values(created_us=1))
    again = open_again()
    assert looked(again) is Reason.AUDIT_RECORD_REFUSED
    assert reason_of(lambda: again.retention.shred(own_call(), "acme", made_us)) is Reason.AUDIT_RECORD_REFUSED
    change(engine, update(sealing_keys).where(of("acme")).values(created_us=made_us))
    assert open_again().events.get("acme", theirs).id == theirs


@pytest.mark.parametrize("form", [b"", b"\x00", b"\x02"])
def test_a_key_in_a_form_that_binds_it_to_less_opens_nothing(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine, form: bytes
) -> None:
    """A key in the form that did not say whose it is, which somebody may have kept a copy of."""
    theirs = event_of(log, "acme")
    with database.reading(engine) as connection:
        row = connection.execute(select(sealing_keys).where(of("acme"))).one()
    root = log.service_keys.open(row.root_id)
    material = sealing_wraps.unwrap(root, WrappedKey(**row._mapping))
    assert material is not None
    less = b"strongroom sealing key" + form + row.key_id + b"acme"
    sealed = form + bytes(12) + AESGCM(root.reveal()).encrypt(bytes(12), material * (form == b"\x02"), less)
    wrapped = sealed if form else aes_key_wrap(root.reveal(), material)
    change(engine, update(sealing_keys).where(of("acme")).values(wrapped=wrapped))
    again = open_again()
    assert looked(again) is Reason.AUDIT_RECORD_REFUSED
    assert reason_of(lambda: again.events.get("acme", theirs)) is Reason.AUDIT_RECORD_REFUSED


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
    log.retention.shred(own_call(), "acme", None)
    theirs = event_of(log, "other")
    with database.reading(engine) as connection:
        tombstone = connection.execute(select(sealing_keys.c.wrapped).where(of("acme"))).scalar_one()
    assert looked(open_again()) is None
    change(engine, update(sealing_keys).where(of("other")).values(wrapped=tombstone))
    again = open_again()
    assert reason_of(lambda: again.events.get("other", theirs)) is Reason.AUDIT_RECORD_REFUSED
    assert looked(again) is Reason.AUDIT_RECORD_REFUSED


def test_a_blank_key_is_not_taken_for_destroyed_whatever_else_is_taken_away(
    log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine
) -> None:
    """The database of a service that never started, but for the events, is no licence to bless what is blank."""
    theirs = event_of(log, "acme")
    kept = service_keys.c.purpose.in_([SEALING_ROOT, SIGNING_KEY, INDEX_KEY])
    change(
        engine,
        update(sealing_keys).where(of("acme")).values(wrapped=b""),
        delete(service_keys).where(~kept),
    )
    for again in (open_again(), open_again()):
        assert looked(again) is Reason.AUDIT_RECORD_REFUSED
        assert reason_of(partial(again.events.get, "acme", theirs)) is Reason.AUDIT_RECORD_REFUSED
        unread = counted(again.events, Query("acme"), Period(), DEFAULT_DIMENSIONS).unread
        assert unread == Unread(refused=1)
