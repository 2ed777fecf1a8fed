"""Lookups against a plain list: every condition, both orders, page by page, also of events that came late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.audit.index.store import IndexStore
from services.audit.logs.logs import OpenLog
from services.audit.reading.events import Period, Query
from services.runtime.config import Database
from services.runtime.requests import paging
from services.runtime.storage import database
from strongroom.audit.v1.event_pb2 import Event, Outcome
from tests.support import databases
from tests.support.audit_logs import OwnRoot, append_indexed, event, opened, use_small_nodes
from tests.support.clients import until

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS
NOT_IN_ORDER = [0, 0, 3, 1, 2, -30, 4, 40, 5, 39, 41, -500, 42, 42, 41]

people = st.sampled_from(["ann", "bob", "cleo"])
conditions = st.fixed_dictionaries(
    {},
    optional={
        "principal": people,
        "action": st.sampled_from(["crypto:Encrypt", "crypto:Decrypt"]),
        "resource": st.sampled_from(["key-1", "key-2"]),
        "outcome": st.sampled_from([Outcome.OUTCOME_ALLOWED, Outcome.OUTCOME_DENIED]),
        "resource_version": st.sampled_from(["key-1/versions/1", "secret/versions/1"]),
        "session_name": st.just("night"),
        "text": st.sampled_from(["ANN", "key-2", "nowhere"]),
    },
)
seconds = st.none() | st.integers(-600, 120)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenLog, list[Event]]]:
    """A log of 600 events of three accounts, and what is in it."""
    engine = engine_in(tmp_path_factory.mktemp("lookups"))
    log = opened(engine, OwnRoot())
    events = [made(number) for number in range(600)]
    for start in range(0, len(events), 70):
        log.log.append(events[start : start + 70])
    yield log, events
    log.stop()


def engine_in(directory: Path) -> Engine:
    engine = database.open_database(Database(url=f"sqlite:///{directory}/audit.db"))
    databases.migrate(engine, "audit")
    return engine


def made(number: int) -> Event:
    """Events of two minutes, some at one time, some out of order, some of them by minutes."""
    seconds_in = number // 5 + NOT_IN_ORDER[number % len(NOT_IN_ORDER)]
    return event(
        account=("acme", "acme", "other", "")[number % 4],
        principal=("ann", "bob", "cleo")[number % 3],
        at=START_NS + seconds_in * SECOND_NS,
        action="crypto:Decrypt" if number % 7 == 0 else "crypto:Encrypt",
        resource=f"key-{number % 2 + 1}",
        key_version="key-1/versions/1" if number % 2 == 0 else "",
        secret_version="secret/versions/1" if number % 11 == 0 else "",
        session_name="night" if number % 13 == 0 else "",
        outcome=Outcome.OUTCOME_DENIED if number % 17 == 0 else Outcome.OUTCOME_ALLOWED,
    )


def all_pages(log: OpenLog, query: Query, period: Period, size: int, *, newest_first: bool) -> list[Event]:
    found: list[Event] = []
    position = None
    while True:
        page, position = log.events.page(query, period, position, size, newest_first=newest_first)
        assert len(page) <= size
        found += page
        if position is None:
            return found


def expected(events: list[Event], query: Query, period: Period, *, newest_first: bool) -> list[Event]:
    def time_us(one: Event) -> int:
        return one.time.seconds * 1_000_000

    wanted = [
        (time_us(one), place, one)
        for place, one in enumerate(events)
        if query.wants(one)
        and (period.start_us is None or time_us(one) >= period.start_us)
        and (period.end_us is None or time_us(one) < period.end_us)
    ]
    return [one for *_, one in sorted(wanted, key=lambda entry: entry[:2], reverse=newest_first)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["acme", "other", "", "nobody"]), conditions, seconds, seconds, st.integers(25, 200), st.booleans()
)
def test_pages_are_what_a_sorted_list_would_give(
    filled: tuple[OpenLog, list[Event]],
    account: str,
    asked: dict[str, str],
    since: int | None,
    until_second: int | None,
    size: int,
    newest_first: bool,
) -> None:
    log, events = filled
    query = replace(Query(account), **asked)  # type: ignore[arg-type]  # fields of Query
    period = Period(*(None if s is None else START_NS // 1000 + s * 1_000_000 for s in (since, until_second)))
    found = all_pages(log, query, period, size, newest_first=newest_first)
    assert found == expected(events, query, period, newest_first=newest_first)


def test_one_event_is_found_by_its_trace(filled: tuple[OpenLog, list[Event]]) -> None:
    log, events = filled
    query = Query("acme", trace_id=events[201].trace_id)
    assert all_pages(log, query, Period(), 10, newest_first=True) == [events[201]]
    assert all_pages(log, replace(query, account="other"), Period(), 10, newest_first=True) == []


def test_text_is_found_within_one_field_alone(filled: tuple[OpenLog, list[Event]]) -> None:
    log, _ = filled
    assert all_pages(log, Query("acme", text="ann\ncrypto"), Period(), 1000, newest_first=True) == []


def test_the_index_in_the_database_answers_as_that_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_nodes(monkeypatch)
    engine, crypto = engine_in(tmp_path), OwnRoot()
    log = opened(engine, crypto)
    # 21 nodes of level 0, five of level 1, one of level 2.
    events = [made(number) for number in range(11_000)]
    append_indexed(log, events, 90)
    store = IndexStore(engine)
    while (store.complete(0), store.complete(1), store.complete(2)) != (21, 5, 1):
        events.append(made(len(events)))
        append_indexed(log, events[-1:], 1)
    again = opened(engine, crypto)
    rare = [events[600], events[4_095], events[8_192], events[10_999]]
    for asked in (log, again):
        for query, period in (
            (Query("acme", principal="bob", resource="key-2", session_name="night"), Period()),
            (Query("", session_name="night"), Period(START_NS // 1000 + 700_000_000, START_NS // 1000 + 900_000_000)),
        ):
            for newest_first in (True, False):
                found = all_pages(asked, query, period, 64, newest_first=newest_first)
                assert found == expected(events, query, period, newest_first=newest_first)
        for one in rare:
            assert all_pages(asked, Query(one.account, trace_id=one.trace_id), Period(), 5, newest_first=True) == [one]
        assert all_pages(asked, Query("acme", principal="nobody"), Period(), 5, newest_first=True) == []
    log.stop()
    again.stop()


def test_a_node_that_a_process_left_half_written_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_nodes(monkeypatch)
    engine, crypto = engine_in(tmp_path), OwnRoot()
    log, store = opened(engine, crypto), IndexStore(engine)
    events = [made(number) for number in range(1_200)]
    append_indexed(log, events[:512], 512)
    append_indexed(log, events[512:513], 1)
    log.stop()
    assert store.pairs(0, [0], [0]) != [{}]
    assert store.complete(0) == 0
    again = opened(engine, crypto)
    append_indexed(again, events[513:], 50)
    assert store.complete(0) == 2
    for query in (Query("acme", principal="bob", resource="key-2"), Query("other")):
        found = all_pages(again, query, Period(), 64, newest_first=True)
        assert found == expected(events, query, Period(), newest_first=True)
    again.stop()


def test_looking_up_what_is_rare_reads_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_nodes(monkeypatch)
    engine = engine_in(tmp_path)
    log = opened(engine, OwnRoot())
    events = [made(number) for number in range(11_000)]
    append_indexed(log, events, 90)
    until(lambda: log._index._complete[:2] == [21, 5] or not log.log.append([made(0)]))
    read: list[int] = []
    pairs = IndexStore.pairs

    def counted(store: IndexStore, level: int, places: list[int], nodes: list[int]) -> list[dict[int, bytes]]:
        read.append(len(places) * len(nodes))
        return pairs(store, level, places, nodes)

    monkeypatch.setattr(IndexStore, "pairs", counted)
    one = events[300]
    assert list(
        log.events.leaves(Query(one.account, trace_id=one.trace_id), Period(), None, newest_first=True, archive=False)
    )
    # One of the four below one of level 1, the five of level 1, and the last of level 0.
    assert sum(read) <= 12
    log.stop()


def test_tokens_tell_nothing_of_what_they_stand_for(filled: tuple[OpenLog, list[Event]]) -> None:
    log, events = filled
    tokens = log.events._tokens.of(events[0])
    assert b"ann" not in tokens
    assert tokens != log.events._tokens.of(events[3])


def test_a_page_of_large_events_has_fewer_and_none_is_left_out(tmp_path: Path) -> None:
    log = opened(engine_in(tmp_path), OwnRoot())
    text = "x" * 30_000
    events = [event(attributes={"comment": text, "number": str(number)}) for number in range(100)]
    for start in range(0, len(events), 50):
        log.log.append(events[start : start + 50])
    sizes: list[int] = []
    found: list[str] = []
    position = None
    while not sizes or position is not None:
        page, position = log.events.page(Query("acme"), Period(), position, 1_000, newest_first=False)
        sizes.append(sum(one.ByteSize() for one in page))
        found += [one.attributes["number"] for one in page]
    assert max(sizes) <= paging.LARGEST_BYTES
    assert sorted(found, key=int) == [str(number) for number in range(100)]
    assert len(set(found)) == len(found)
    log.stop()
