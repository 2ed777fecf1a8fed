"""Seals of rows: what was changed, moved or put back is told apart from what the service wrote."""

from __future__ import annotations

import os
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table

from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage.row_seals import ADDED, SEAL, UNSEALED, RowSeals, seal_column

_COLUMNS: tuple[tuple[str, Any], ...] = (("name", String), ("size", BigInteger), ("blob", LargeBinary))
THINGS = Table("things", MetaData(), *(Column(name, kind) for name, kind in _COLUMNS), seal_column())
ROW = {"name": "n", "size": 1, "blob": b"b"}


def seals(key: bytes | None = None) -> RowSeals:
    made = RowSeals(Reason.SECRET_RECORD_REFUSED)
    made.open(SensitiveBytes(key or bytes(32)))
    return made


def sealed(row: dict[str, Any], table: Table = THINGS, *more: str) -> dict[str, Any]:
    return {**row, SEAL: seals().seal(table, row, *more)}


def refuses(row: dict[str, Any], table: Table = THINGS, *more: str, by: RowSeals | None = None) -> bool:
    try:
        (by or seals()).verify(table, row, "things/n", *more)
    except StrongroomError as error:
        assert error.reason is Reason.SECRET_RECORD_REFUSED
        return True
    return False


def test_what_the_service_wrote_is_taken() -> None:
    assert not refuses(sealed(ROW))


@pytest.mark.parametrize(
    "change",
    [
        *({"name": name} for name in ("", "N", "n\0", None, b"n", 1)),
        *({"size": size} for size in (0, 2, -1, None, "1", b"1", 1.5)),
        *({"blob": blob} for blob in (b"", b"B", None, "b")),
        *({SEAL: seal} for seal in (None, b"", bytes(33), os.urandom(33))),
    ],
)
def test_a_changed_column_is_refused(change: dict[str, Any]) -> None:
    assert refuses({**sealed(ROW), **change})


def test_bytes_do_not_move_from_one_column_to_the_next() -> None:
    assert refuses({**sealed({**ROW, "name": "ab", "blob": b"c"}), "name": "a", "blob": b"bc"})


def test_a_row_of_another_table_key_or_with_other_stages_is_refused() -> None:
    other = Table("others", MetaData(), *(Column(name, kind) for name, kind in _COLUMNS), seal_column())
    assert refuses(sealed(ROW), other)
    assert refuses(sealed(ROW), by=seals(os.urandom(32)))
    assert refuses(sealed(ROW, THINGS, "Current: 1"), THINGS, "Current: 2")
    assert refuses(sealed(ROW, THINGS, "Current: 1"))


def test_an_added_column_leaves_older_seals_valid_and_is_sealed_once_it_holds_something() -> None:
    added = Table(
        "things",
        MetaData(),
        *(Column(name, kind) for name, kind in _COLUMNS),
        Column("since", String, info={ADDED: True}),
        Column("free", String, info={UNSEALED: True}),
        seal_column(),
    )
    old = {**sealed(ROW), "since": "", "free": "x"}
    assert not refuses(old, added)
    assert refuses({**old, "since": "x"}, added)
    assert refuses({**sealed({**ROW, "since": "x", "free": ""}, added), "since": ""}, added)


def test_without_its_key_nothing_is_read_or_written() -> None:
    closed = RowSeals(Reason.SECRET_RECORD_REFUSED)
    for work in (closed.check, lambda: closed.seal(THINGS, ROW), lambda: closed.verify(THINGS, sealed(ROW), "n")):
        with pytest.raises(StrongroomError) as refused:
            work()
        assert refused.value.reason is Reason.RECORD_KEY_UNAVAILABLE
        assert refused.value.is_unavailable


def test_an_older_row_is_refused_once_a_newer_one_was_seen_for_a_while() -> None:
    now = [0.0]
    watching = RowSeals(Reason.SECRET_RECORD_REFUSED, lambda: now[0])
    watching.require_newest("s", 5)
    watching.require_newest("s", 6)
    watching.require_newest("s", 5)  # a view of a moment ago
    now[0] = 60.0
    watching.require_newest("s", 6)
    watching.require_newest("other", 1)
    with pytest.raises(StrongroomError):
        watching.require_newest("s", 5)
