"""Leaves: what they tell to those who may not open them, and what opens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, text

from services.audit.keys.sealing import SEALING_BYTES, padded, unpadded
from services.audit.logs.logs import OpenLog
from services.audit.reading.events import Period, Query, Unread
from services.audit.reading.usage import DEFAULT_DIMENSIONS, counted
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from strongroom.tlog.tiles import MAX_ENTRY_BYTES
from tests.support.audit_logs import event, own_call

LARGEST = MAX_ENTRY_BYTES - SEALING_BYTES


def leaves_of(log: OpenLog) -> list[bytes]:
    return log.source.entries(0, log.log.size)


def refused(work: Callable[[], object]) -> Reason:
    with pytest.raises(StrongroomError) as error:
        work()
    return error.value.reason


def rewrite(engine: Engine, leaf: bytes, index: int = 0) -> None:
    with database.transaction(engine) as connection:
        connection.execute(text("UPDATE leaves SET leaf = :leaf WHERE leaf_index = :at"), {"leaf": leaf, "at": index})


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 1_021, 1_022, 1_023, 5_000, LARGEST - 1, LARGEST])
def test_an_event_comes_out_of_its_class_of_sizes_as_it_went_in(size: int) -> None:
    made = bytes([7]) * size
    assert unpadded(padded(made)) == made
    assert len(padded(made)) <= LARGEST + 2
    assert len(padded(made)) == LARGEST + 2 or len(padded(made)) % 128 == 0


def test_leaves_tell_no_sizes_but_few_classes_of_them(open_log: OpenLog) -> None:
    names = ["k", "payments", "a-key-with-quite-a-long-name-" * 2]
    open_log.log.append([event(resource=f"accounts/acme/keys/{name}") for name in names])
    sizes = {len(leaf) for leaf in leaves_of(open_log)}
    assert {(size - SEALING_BYTES + 2) % 128 for size in sizes} == {0}
    many = [event(resource="x" * length) for length in range(0, 1_500, 10)]
    open_log.log.append(many)
    assert len({len(leaf) for leaf in leaves_of(open_log)}) <= 10


@pytest.mark.parametrize("sealed", [b"", b"\x00", b"\x00\x01", b"\xff\xff" + bytes(126)])
def test_a_length_that_reaches_beyond_what_was_sealed_is_refused(sealed: bytes) -> None:
    assert refused(lambda: unpadded(sealed)) is Reason.AUDIT_RECORD_REFUSED


def test_leaves_of_releases_before_are_read(open_log: OpenLog, engine: Engine) -> None:
    theirs = event()
    open_log.log.append([theirs])
    (leaf,) = leaves_of(open_log)
    (key,) = open_log.key_inspection._keys.sealing_keys_after(b"", 9)
    material = open_log.key_inspection._sealer._material(key)
    assert material is not None
    header, nonce = b"\x01" + leaf[1:17], bytes(12)
    rewrite(engine, header + nonce + AESGCM(material).encrypt(nonce, theirs.SerializeToString(), header))
    assert open_log.events.get("acme", theirs.id) == theirs


@pytest.mark.parametrize("first", [0, 1, 3, 255])
def test_a_leaf_of_another_format_is_not_taken_for_one_that_was_made_unreadable(
    open_log: OpenLog, engine: Engine, first: int
) -> None:
    theirs = event()
    open_log.log.append([theirs])
    (leaf,) = leaves_of(open_log)
    rewrite(engine, bytes([first]) + leaf[1:])
    assert refused(lambda: open_log.events.get("acme", theirs.id)) is Reason.AUDIT_RECORD_REFUSED


def test_a_report_says_what_it_could_not_read_and_whether_somebody_asked_for_that(
    open_log: OpenLog, engine: Engine
) -> None:
    def unread() -> Unread:
        return counted(open_log.events, Query("acme"), Period(), DEFAULT_DIMENSIONS).unread

    open_log.log.append([event(), event(), event(), event("other")])
    assert unread() == Unread()
    leaf = leaves_of(open_log)[1]
    rewrite(engine, leaf[:-1] + bytes([leaf[-1] ^ 1]), 1)
    assert unread() == Unread(refused=1)
    open_log.retention.shred(own_call(), "acme", None)
    open_log.log.append([event()])
    assert unread() == Unread(shredded=3)
    with database.transaction(engine) as connection:
        connection.execute(text("DELETE FROM sealing_keys WHERE account = 'acme'"))
    open_log.key_inspection._sealer.forget("acme")
    assert unread() == Unread(refused=4)
