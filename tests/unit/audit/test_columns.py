"""Every column of audit's database in the hands of somebody else: after a restart nothing is hidden, shredded or shown
by it that is not told. Lookups and reports are whole, or refused, or the status, or whoever verifies the log, tells.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Table, and_, delete, func, select, update

from services.audit.keys.sealing import DAY_US
from services.audit.logs.logs import Logs, OpenLog
from services.audit.reading.events import Period, Query
from services.audit.reading.usage import DEFAULT_DIMENSIONS, counted
from services.audit.retention.retention import HOLD_PATHS, POLICY_PATHS
from services.audit.retention.store import LegalHold, RetentionPolicy
from services.audit.storage.tables import destroyed_items, metadata, outbox
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from strongroom.tlog import merkle
from tests.support import databases
from tests.support.audit_logs import OwnRoot, append_indexed, event, opened, own_call, use_small_nodes
from tests.support.clients import until
from tests.support.clocks import StillClock

COUNT = 1_000
DAYS = 500
# What audit keeps for another service decides over nothing in audit: only who writes to both databases gains by it.
ELSEWHERE = {destroyed_items}
# An event is there for a moment, on its way to the log that is in the same database.
TABLES = [table for table in metadata.sorted_tables if table is not outbox]
COLUMNS = [column for table in TABLES for column in table.c]
# Those that hid something once, always; `make tamper` tries all.
FIRST = {
    "leaves.tokens",
    "leaves.time_us",
    "leaves.event_id",
    "index_blocks.pairs",
    "archives.content",
    "heads.high_us",
}
WHOLE = "STRONGROOM_TAMPER_SECONDS" in os.environ
SEED = int(os.environ.get("STRONGROOM_TAMPER_SEED", "7")) or None
SOME = [column for column in COLUMNS if WHOLE or str(column) in FIRST]
SOME += [] if WHOLE else random.Random(SEED).sample([column for column in COLUMNS if column not in SOME], 12)


@dataclass(frozen=True)
class Original:
    """A log with archived events of acme's and of other's, and new ones, and a hold and a policy of acme's."""

    path: Path
    crypto: OwnRoot
    clock: StillClock
    root: bytes
    signed_with: frozenset[str]
    ours: frozenset[str]
    theirs: frozenset[str]


def engine_of(path: Path) -> Engine:
    return database.open_database(Database(url=f"sqlite:///{path}"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    with pytest.MonkeyPatch.context() as patch:
        use_small_nodes(patch)
        path = tmp_path_factory.mktemp("columns") / "audit.db"
        engine, crypto, clock = engine_of(path), OwnRoot(), StillClock(time.time_ns() // 1000)
        databases.migrate(engine, "audit")
        old = StillClock(clock.us - DAYS * DAY_US)
        log = opened(engine, crypto, clock=clock)
        at = [old.us + number * 1_000 - (3_000_000 if number % 500 == 7 else 0) for number in range(COUNT - 300)]
        at += [clock.us + number * 1_000 for number in range(300)]
        events = [
            event(("acme", "other")[number % 2], at=us * 1_000, made_by=StillClock(us)) for number, us in enumerate(at)
        ]
        append_indexed(log, events, 100)
        until(lambda: log._index.complete(0) > 0 or not log.log.append([event("third")]))
        log.retention.update_policy(own_call(account="third"), RetentionPolicy("acme", 30, 40), POLICY_PATHS, "0")
        log.retention.update_hold(own_call(account="third"), LegalHold("acme", True, "case 7", "ann"), HOLD_PATHS, "0")
        assert log.retention.archive_due() > 0
        log.destroyed.note("services/keystore", [bytes(20)])
        until(lambda: log.publisher.signed is not None and log.publisher.signed.tree_size == log.log.size)
        ours, theirs = (frozenset(one.id for one in events if one.account == name) for name in ("acme", "other"))
        root, signed_with = log.log.tree.root(), frozenset(key.verifier_key for key in log.signing_keys.known())
        log.stop()
        yield Original(path, crypto, clock, root, signed_with, ours, theirs)


def other_value(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 0 if value else 1 << 40
    if isinstance(value, str):
        return value + "x"
    return bytes([value[0] ^ 1]) + value[1:-1] + bytes([value[-1] ^ 1]) if value else b"x"


def tamper(engine: Engine, column: Column[Any]) -> None:
    """Writes something else to the column of one row in the middle, or of the last where only that means anything."""
    table = column.table
    with database.transaction(engine) as connection:
        count = connection.execute(select(func.count()).select_from(table)).scalar_one()
        assert count, "there is nothing to tamper with"
        at = count - 1 if table.name == "checkpoints" else count // 2
        row = connection.execute(select(table).order_by(*table.primary_key).offset(at).limit(1)).one()._mapping
        this = and_(*(one == row[one.name] for one in table.primary_key))
        value = row[column.name]
        # No other row's.
        changed = {column: 1 << 40 if column.primary_key and isinstance(value, int) else other_value(value)}
        assert connection.execute(update(table).where(this).values(changed)).rowcount == 1


def found_by(log: OpenLog, account: str) -> frozenset[str]:
    """Whom lookups show, page by page, the archive among it."""
    found: list[str] = []
    position = None
    while True:
        page, position = log.events.page(Query(account), Period(), position, 1_000, newest_first=True, archive=True)
        assert {one.account for one in page} <= {account}
        found += [one.id for one in page]
        if position is None:
            assert len(found) == len(set(found))
            return frozenset(found)


def is_told(log: OpenLog, root: bytes) -> bool:
    """Whether the status says that something is wrong, or the leaves are not those of the checkpoint."""
    try:
        Logs([log]).check_keys()
        size = log.log.size
        entries = [
            entry for at in range(-(-size // 256)) for entry in log.source.entries(at, min(256, size - at * 256))
        ]
    except StrongroomError as error:
        assert error.reason in (Reason.AUDIT_RECORD_REFUSED, Reason.TILE_NOT_FOUND)
        return True
    return merkle.root_of(merkle.leaf_hashes(entries)) != root


def require_whole_or_told(log: OpenLog, original: Original) -> None:
    for account, wanted in (("acme", original.ours), ("other", original.theirs)):
        try:
            assert found_by(log, account) == wanted or is_told(log, original.root), account
            report = counted(log.events, Query(account), Period(), DEFAULT_DIMENSIONS)
        except StrongroomError as error:
            assert error.reason is Reason.AUDIT_RECORD_REFUSED
            continue
        assert report.unread.shredded == 0
        reported = sum(row.event_count for row in report.rows) + report.unread.refused
        assert reported == len(wanted) or is_told(log, original.root)
    known = {key.verifier_key for key in log.signing_keys.known()}
    assert known >= original.signed_with or is_told(log, original.root)
    try:
        assert log.retention.shred_due() == []
        log.retention.shred(own_call(account="third"), "acme", None)
    except StrongroomError as error:
        assert error.reason in (Reason.LEGAL_HOLD, Reason.AUDIT_RECORD_REFUSED)
    else:
        raise AssertionError("events that are held were shredded")


def looked_through(log: OpenLog) -> None:
    until(lambda: looks(log))


def looks(log: OpenLog) -> bool:
    """Looks at everything; False where crypto has not provided the index's key yet."""
    try:
        log.key_inspection.look()
        log.leaf_inspection.look()
    except StrongroomError as error:
        if error.reason is not Reason.AUDIT_SEALING_KEY_UNAVAILABLE:
            raise
        return False
    return True


def restarted(original: Original, engine: Engine) -> OpenLog | None:
    """The log as a process that starts has it; none where it refuses to start."""
    try:
        log = opened(engine, original.crypto, clock=original.clock, writable=False)
    except StrongroomError as error:
        assert error.reason in (Reason.AUDIT_STORAGE_FAILED, Reason.AUDIT_RECORD_REFUSED)
        return None
    looked_through(log)
    return log


@pytest.fixture
def engine(original: Original, tmp_path: Path) -> Iterator[Engine]:
    shutil.copy(original.path, tmp_path / "audit.db")
    engine = engine_of(tmp_path / "audit.db")
    yield engine
    engine.dispose()


def test_as_it_is_everything_is_found_and_nothing_is_told(original: Original, engine: Engine) -> None:
    log = restarted(original, engine)
    assert log is not None
    assert found_by(log, "acme") == original.ours
    assert found_by(log, "other") == original.theirs
    assert not is_told(log, original.root)
    require_whole_or_told(log, original)
    log.stop()


@pytest.mark.parametrize("column", SOME, ids=str)
def test_no_column_hides_shreds_or_shows_anything_untold(
    original: Original, engine: Engine, column: Column[Any]
) -> None:
    tamper(engine, column)
    log = restarted(original, engine)
    if log is not None:
        require_whole_or_told(log, original)
        log.stop()


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_rows_that_are_gone_hide_and_shred_nothing_untold(original: Original, engine: Engine, table: Table) -> None:
    with database.transaction(engine) as connection:
        connection.execute(delete(table))
    log = restarted(original, engine) if table.name != "heads" else None
    if log is not None:
        assert table in ELSEWHERE or table.name in DERIVED or is_told(log, original.root) or table.name == "checkpoints"
        require_whole_or_told(log, original)
        log.stop()


# What is made anew of the rest.
DERIVED = {"index_blocks", "tiles"}
