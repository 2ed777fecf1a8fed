"""Whoever opens a log again that it wrote before says what is not there any more, in the log itself."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import Engine

from services.audit.log.election import election_for
from services.audit.logs.logs import Logs, OpenLog
from services.audit.logs.losses import Losses
from services.audit.reading.events import Period, Query
from services.audit.storage.store import LogStore
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_pb2 import Event
from tests.support.audit_logs import OwnRoot, event, is_writable, opened, put_back
from tests.support.clients import until


def told(log: OpenLog) -> list[Event]:
    found, _ = log.events.page(Query("", action="audit:FindLoss"), Period(), None, 50, newest_first=False)
    return list(found)


def written_before(engine: Engine, crypto: OwnRoot, signed: int, unsigned: int) -> Losses:
    """What a process remembers that wrote so many leaves, and has ended its time as the writer."""
    log = opened(engine, crypto)
    for _ in range(signed):
        log.log.append([event()])
    log.publisher.stop()
    for _ in range(unsigned):
        log.log.append([event()])
    losses = Losses()
    losses.remember(Logs([log]))
    log.stop()
    return losses


def opened_again(engine: Engine, crypto: OwnRoot, losses: Losses) -> OpenLog:
    log = opened(engine, crypto)
    losses.look(log)
    telling = losses.telling(Logs([log]))
    telling.start()
    telling.stop()
    return log


@pytest.mark.parametrize(
    ("size", "reason", "attributes"),
    [
        (3, "AUDIT_EVENTS_LOST", {"size_before": "4", "size_found": "3"}),
        (2, "AUDIT_EVENTS_LOST", {"size_before": "4", "size_found": "2"}),
        (
            1,
            "AUDIT_CHECKPOINT_CONTRADICTED",
            {"size_before": "4", "size_found": "1", "checkpoint_size": "2"},
        ),
    ],
)
def test_what_the_database_has_lost_is_told_once(
    engine: Engine, crypto: OwnRoot, size: int, reason: str, attributes: dict[str, str]
) -> None:
    losses = written_before(engine, crypto, signed=2, unsigned=2)
    put_back(engine, size)
    log = opened_again(engine, crypto, losses)
    (found,) = told(log)
    assert (found.reason, dict(found.attributes)) == (reason, attributes)
    losses.remember(Logs([log]))
    log.stop()
    again = opened_again(engine, crypto, losses)
    assert len(told(again)) == 1
    again.stop()


def test_what_another_writer_has_put_in_its_place_is_told_too(engine: Engine, crypto: OwnRoot) -> None:
    losses = written_before(engine, crypto, signed=2, unsigned=1)
    put_back(engine, 2)
    other = opened(engine, crypto)
    other.log.append([event(), event()])
    other.stop()
    log = opened_again(engine, crypto, losses)
    assert [one.reason for one in told(log)] == ["AUDIT_EVENTS_LOST"]
    log.stop()


def test_nothing_is_told_of_a_log_that_only_grew(engine: Engine, crypto: OwnRoot) -> None:
    losses = written_before(engine, crypto, signed=2, unsigned=1)
    other = opened(engine, crypto)
    other.log.append([event()])
    other.stop()
    log = opened_again(engine, crypto, losses)
    assert told(log) == []
    log.stop()


def stood_by(engine: Engine, crypto: OwnRoot, events: int) -> tuple[OpenLog, Losses]:
    """A log that another process writes, and what a process remembers that stands by."""
    losses = Losses()
    log = opened(engine, crypto)
    assert log.election.try_to_win()
    waiting = election_for(engine, lambda: None, partial(losses.saw, log.name))
    for _ in range(events):
        log.log.append([event()])
        assert not waiting.try_to_win()
    return log, losses


def ended(log: OpenLog) -> None:
    """Leaves a log as a process does that is killed."""
    log.stop()
    log.election.give_up()


@pytest.mark.parametrize("size", [0, 2])
def test_whoever_stood_by_tells_what_the_writer_cannot_any_more(engine: Engine, crypto: OwnRoot, size: int) -> None:
    log, losses = stood_by(engine, crypto, events=3)
    ended(log)
    put_back(engine, size)
    taken_over = opened_again(engine, crypto, losses)
    (found,) = told(taken_over)
    assert found.reason == "AUDIT_EVENTS_LOST"
    assert dict(found.attributes) == {"size_before": "3", "size_found": str(size)}
    taken_over.stop()


def test_it_is_told_where_the_log_has_grown_since(engine: Engine, crypto: OwnRoot) -> None:
    log, losses = stood_by(engine, crypto, events=2)
    ended(log)
    put_back(engine, 1)
    other = opened(engine, crypto)
    other.log.append([event()])
    losses.saw(other.name, LogStore(engine).head())
    other.stop()
    taken_over = opened_again(engine, crypto, losses)
    assert len(told(taken_over)) == 1
    taken_over.stop()


def test_whoever_stood_by_of_a_log_that_only_grew_tells_nothing(engine: Engine, crypto: OwnRoot) -> None:
    log, losses = stood_by(engine, crypto, events=300)
    log.log.append([event()])
    ended(log)
    taken_over = opened_again(engine, crypto, losses)
    assert told(taken_over) == []
    taken_over.stop()


def test_a_database_that_is_away_counts_for_no_loss(
    engine: Engine, crypto: OwnRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = written_before(engine, crypto, signed=2, unsigned=1)
    log = opened(engine, crypto)

    def away(*_: object) -> list[bytes]:
        raise StrongroomError(Reason.DATABASE_UNAVAILABLE, "it is away")

    with monkeypatch.context() as cut:
        cut.setattr(LogStore, "entries", away)
        with pytest.raises(StrongroomError) as refused:
            losses.look(log)
    assert refused.value.reason is Reason.DATABASE_UNAVAILABLE
    log.stop()
    again = opened_again(engine, crypto, losses)
    assert told(again) == []
    again.stop()


def test_what_could_not_be_recorded_yet_is_recorded_later(engine: Engine, crypto: OwnRoot) -> None:
    losses = written_before(engine, crypto, signed=0, unsigned=1)
    put_back(engine, 0)
    log = opened(engine, crypto)
    losses.look(log)
    crypto.away = True
    log.stop()
    # Nor can this one be written before crypto is back.
    again = opened(engine, crypto)
    telling = losses.telling(Logs([again]))
    telling.start()
    until(lambda: bool(telling.failures))
    crypto.away = False
    until(lambda: is_writable(again) and len(told(again)) == 1, 20)
    telling.stop()
    again.stop()
