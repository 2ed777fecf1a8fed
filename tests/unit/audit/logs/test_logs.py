"""Several logs: an account's events are all in one, each log has places and checkpoints of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.audit.logs.logs import Logs
from services.audit.reading.events import Period, Query
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from tests.support import databases
from tests.support.audit_logs import OwnRoot, event, opened
from tests.support.clients import until

ACCOUNTS = [f"account-{number}" for number in range(20)]


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    crypto, opened_logs = OwnRoot(), []
    for name in ("east", "west"):
        engine = database.open_database(Database(url=f"sqlite:///{tmp_path}/{name}.db"))
        databases.migrate(engine, "audit")
        opened_logs.append(opened(engine, crypto, name=name))
    logs = Logs(opened_logs)
    yield logs
    logs.stop()


def test_events_go_to_their_accounts_logs_in_one_append(logs: Logs) -> None:
    recorded = [event(account) for _ in range(3) for account in ACCOUNTS]
    places = logs.append(recorded)
    sizes = {log.name: log.log.size for log in logs}
    assert set(sizes) == {"logs/east", "logs/west"}
    assert sum(sizes.values()) == len(recorded)
    assert min(sizes.values()) > 0
    for one, place in zip(recorded, places, strict=True):
        log = logs.of_account(one.account)
        assert log.events.leaf(one.account, one.id).leaf_index == place
    assert logs.append(recorded, resent=True) == places
    for account in ACCOUNTS:
        page, _ = logs.of_account(account).events.page(Query(account), Period(), None, 50, newest_first=True)
        assert len(page) == 3


def test_each_log_publishes_itself(logs: Logs) -> None:
    logs.append([event(account) for account in ACCOUNTS])
    for log in logs:
        until(lambda log=log: log.publisher.published is not None and log.publisher.published.tree_size == log.log.size)  # type: ignore[misc]
    assert len({log.transparency.checkpoint().root_hash for log in logs}) == 2


def test_a_log_is_named_where_there_are_several(logs: Logs) -> None:
    assert logs.named("logs/west").name == "logs/west"
    for name, reason in (("", Reason.FIELD_REQUIRED), ("logs/north", Reason.LOG_NOT_FOUND)):
        with pytest.raises(StrongroomError) as refused:
            logs.named(name)
        assert refused.value.reason is reason
