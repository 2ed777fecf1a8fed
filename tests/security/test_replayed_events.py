"""An event that somebody puts back into an outbox, from a backup say, is in the log once, however old it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import Engine, text

from services.audit.index.store import IndexStore
from services.audit.keys.sealing import DAY_US
from services.audit.logs.logs import OpenLog
from services.audit.retention.archive import Archive
from services.audit.storage.store import LogStore
from services.runtime.storage.database import transaction
from strongroom.audit.v1.event_pb2 import Event
from tests.support.audit_logs import OwnRoot, append_indexed, event, events_of, opened, own_call, use_small_nodes
from tests.support.clocks import StillClock
from tests.unit.audit.conftest import crypto, database_url, engine

__all__ = ["crypto", "database_url", "engine"]

COUNT, LATE = 1300, 701


def made(account: str, at: StillClock, number: int) -> Event:
    late_us = 3_000_000 if number == LATE else 0
    return event(account=account, at=(at.us + number * 1_000 - late_us) * 1_000, made_by=at)


@pytest.fixture
def events() -> Sequence[Event]:
    """Of 500 days ago."""
    old = StillClock(time.time_ns() // 1000 - 500 * DAY_US)
    return [made("acme" if number % 5 else "other", old, number) for number in range(COUNT)]


@pytest.fixture
def archived(
    engine: Engine, crypto: OwnRoot, events: Sequence[Event], monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenLog]:
    use_small_nodes(monkeypatch)
    log = opened(engine, crypto)
    append_indexed(log, events, 100)
    assert log.retention.archive_due() == 4
    yield log
    log.stop()


@pytest.mark.parametrize("resent", [True, False])
def test_an_archived_event_keeps_its_place(archived: OpenLog, events: Sequence[Event], resent: bool) -> None:
    new = event()
    places = [0, 255, 256, LATE, 1023, COUNT - 1]
    assert archived.log.append([events[place] for place in places], resent=resent) == places
    assert archived.log.append([events[5], new, events[6]], resent=resent) == [5, COUNT, 6]
    assert archived.log.size == COUNT + 1


def test_also_once_its_account_s_events_were_made_unreadable(archived: OpenLog, events: Sequence[Event]) -> None:
    archived.retention.shred(own_call(), "acme", None)
    size = archived.log.size
    assert archived.log.append([events[7]]) == [7]
    assert archived.log.size == size


@pytest.mark.usefixtures("archived")
def test_a_process_that_starts_knows_what_was_archived(engine: Engine, events: Sequence[Event]) -> None:
    starting = Archive(engine, LogStore(engine), IndexStore(engine))
    assert sorted(starting.known([events[5], event(), events[1023], events[-1]]).values()) == [5, 1023]


def test_what_was_altered_in_the_archive_keeps_no_event_out(
    archived: OpenLog, engine: Engine, events: Sequence[Event]
) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE archives SET content = x'00'"))
    new = event()
    assert archived.log.append([events[5], new]) == [COUNT, COUNT + 1]
    assert events_of(archived, "acme")[-1] == new
