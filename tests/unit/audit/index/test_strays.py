"""Rows of the log in which somebody else wrote what its events are found by: they are found all the same, and told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from services.audit.logs.logs import Logs, OpenLog
from services.audit.reading.events import Period, Query, Unread
from services.audit.reading.usage import DEFAULT_DIMENSIONS, counted
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from tests.support.audit_logs import event

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS


def told(log: OpenLog) -> Reason | None:
    try:
        Logs([log]).check_keys()
    except StrongroomError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    "change",
    [
        "tokens = zeroblob(8)",
        "tokens = zeroblob(6)",
        "tokens = (SELECT tokens FROM leaves WHERE leaf_index = 0)",
        "time_us = 0",
        "time_us = 9000000000000000",
        "high_us = 9000000000000000",
        "high_us = 0",
        "event_id = zeroblob(16)",
        "tokens = x'00', time_us = 1, high_us = 1, event_id = zeroblob(16)",
    ],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_what_stands_beside_a_leaf_hides_nothing_of_it(
    open_log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine, change: str, restarted: bool
) -> None:
    events = [event(("other", "acme")[number > 0], at=START_NS + number * SECOND_NS) for number in range(12)]
    open_log.log.append(events)
    open_log.leaf_inspection.look()
    assert told(open_log) is None
    with database.transaction(engine) as connection:
        connection.execute(text(f"UPDATE leaves SET {change} WHERE leaf_index = 7"))  # noqa: S608  # the test's own
    log = open_again() if restarted else open_log
    log.leaf_inspection.look()
    assert told(log) is Reason.AUDIT_RECORD_REFUSED
    query, ours = Query("acme"), events[1:]
    for newest_first in (False, True):
        page, _ = log.events.page(query, Period(), None, 99, newest_first=newest_first)
        assert page == (ours[::-1] if newest_first else ours)
    within = Period((START_NS + 6 * SECOND_NS) // 1_000, (START_NS + 9 * SECOND_NS) // 1_000)
    assert log.events.page(query, within, None, 99, newest_first=False)[0] == events[6:9]
    assert [one for _, one in log.events.following(query, 0, 12, 0)] == ours
    report = counted(log.events, query, within, DEFAULT_DIMENSIONS)
    assert (sum(row.event_count for row in report.rows), report.unread) == (3, Unread())
    assert log.events.get("acme", events[7].id) == events[7]
    assert log.events.page(Query("other"), Period(), None, 99, newest_first=True)[0] == events[:1]


@pytest.mark.parametrize(
    "change", ["leaf = x'02'", "tokens = x'00', leaf = CAST(substr(leaf, 1, 40) || x'00' AS BLOB)"]
)
def test_a_leaf_that_does_not_open_is_counted_though_nothing_finds_it(
    open_log: OpenLog, engine: Engine, change: str
) -> None:
    open_log.log.append([event() for _ in range(5)])
    with database.transaction(engine) as connection:
        connection.execute(text(f"UPDATE leaves SET {change} WHERE leaf_index = 2"))  # noqa: S608  # the test's own
    open_log.leaf_inspection.look()
    assert told(open_log) is Reason.AUDIT_RECORD_REFUSED
    unread = counted(open_log.events, Query("acme"), Period(), DEFAULT_DIMENSIONS).unread
    assert unread == Unread(refused=0 if change == "leaf = x'02'" else 1)


def test_a_row_that_was_taken_away_is_missed_and_one_that_was_put_back_is_not(
    open_log: OpenLog, engine: Engine
) -> None:
    open_log.log.append([event() for _ in range(5)])
    with database.transaction(engine) as connection:
        row = connection.execute(text("SELECT * FROM leaves WHERE leaf_index = 3")).mappings().one()
        connection.execute(text("DELETE FROM leaves WHERE leaf_index = 3"))
    open_log.leaf_inspection.look()
    assert told(open_log) is Reason.AUDIT_RECORD_REFUSED
    with database.transaction(engine) as connection:
        connection.execute(
            text("INSERT INTO leaves VALUES (:leaf_index, :event_id, :time_us, :high_us, :tokens, :leaf)"), dict(row)
        )
    open_log.leaf_inspection.look()
    assert told(open_log) is None
