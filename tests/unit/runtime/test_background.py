"""Work in the background: whatever a round raises, the next one comes; `check` and the metrics say that it fails. Of
every piece of such work, in every service."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from services.audit.index.tree import Index
from services.audit.keys.service_keys import Renewal
from services.audit.log.sequencer import Log
from services.audit.log.write_ahead import WriteAheadLog
from services.audit.logs.losses import Losses
from services.audit.logs.storage_watch import StorageWatch
from services.audit.publication.publishing import Publication, Publisher
from services.audit.publication.witnesses import Witnesses
from services.audit.retention.retention import RetentionWork
from services.crypto.providers.pkcs11.sessions import PoolOptions, SessionPool
from services.doors.mesh.health import HealthRounds
from services.keystore.access.accounts.ended_grants import EndedGrants
from services.keystore.access.credentials.later_notes import ClientKeyUses
from services.keystore.access.credentials.sessions import Sessions
from services.keystore.work.bootstrap import SecretsKey
from services.runtime import background
from services.runtime.audit_client import AuditClient
from services.runtime.audit_queue import Waiting
from services.runtime.background import NEVER, UNTIL_WOKEN, Background
from services.runtime.changes import ChangeFeed
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import CRYPTO
from services.runtime.rpc.arrivals import Arrivals, Limits
from services.runtime.rpc.dismissals import Dismissals
from services.runtime.rpc.status import Status
from services.runtime.rpc.stream_ends import StreamEnds
from services.runtime.rpc.summaries import Summaries
from services.runtime.rpc.unfinished import Patience
from services.runtime.storage.history import History
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.record_keys import RecordSealing
from services.runtime.work.due_work import Aside, DueWork
from services.runtime.work.schedule import Claim
from services.secrets.life.watching import Watches
from strongroom.audit.v1.event_pb2 import Event
from tests.support.clients import until
from tests.support.clocks import StillClock

ROOT = Path(__file__).parents[3]
METER = NoOpMeterProvider().get_meter("test")
# Threads that do no work in rounds: one task each, the calls of a server, or the life of another process.
OTHER_THREADS = {
    "services/audit/__main__.py": "ends the service once another process has won the log",
    "services/audit/handlers/http_tiles.py": "serves HTTP requests",
    "services/audit/logs/streaming.py": "one caller's stream",
    "services/runtime/access/cedar_text.py": "one policy with a deep stack",
    "services/runtime/rpc/server.py": "one hand-over",
    "services/runtime/rpc/turns.py": "callers' tasks, each of which may fail",
    "services/runtime/hosting/workers.py": "ends this process with its parent",
    "services/secrets/rotation/targets/checks.py": "callers' tasks, each of which may fail",
    "services/secrets/rotation/targets/relay.py": "copies one target's bytes, in a process that ends with it",
    "services/secrets/rotation/targets/worker.py": "counts one target's answer",
}


class Broken:
    """Whatever is done with it fails by an error that is none of ours."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[Any]:
        raise ZeroDivisionError


BROKEN = cast(Any, Broken())
NONE = cast(Any, None)


def arrivals() -> object:
    made = Arrivals("test", NONE, NONE, Limits(Patience(1, 1.0, 1), 1, 1))
    made._unfinished = BROKEN
    return made


def audit_client() -> object:
    client = AuditClient(lambda: BROKEN, senders=1)
    queue, client._queue = client._queue, BROKEN
    # The sender waits in the one that it knows.
    queue.put("", [Waiting([], 0, "", 0.0)])
    return client


def dismissals() -> object:
    made: Dismissals[int] = Dismissals("test", NONE, 1)
    made._groups = BROKEN
    made._work.wake()
    return made


def due_work() -> object:
    aside = Aside(lambda _: "a", 1, 1)
    work = DueWork(BROKEN, BROKEN, BROKEN, StillClock(), due_now=BROKEN, overdue=BROKEN, aside=aside)
    for number in range(3):
        aside.queue.put("a", Claim(f"delete:a/{number}", 0), 10)
    return work


def index() -> object:
    made = Index(NONE, NONE)
    made._full = BROKEN
    return made


def log() -> object:
    made = cast(Any, object.__new__(Log))
    made._lock = threading.Lock()
    made._require_writable = BROKEN
    made._beating = made._beats()
    return made


def losses() -> object:
    made = Losses()
    made._told.append(("main", Event()))
    return SimpleNamespace(work=made.telling(BROKEN))


def publisher() -> object:
    return Publisher(
        Publication("o", 0.01), BROKEN, NONE, cast(Any, SimpleNamespace(newest=lambda **_: None)), NONE, NONE
    )


def witnesses() -> object:
    key = SimpleNamespace(name="w")
    return Witnesses([cast(Any, SimpleNamespace(key=key, url="http://w"))], BROKEN, NONE, NONE, NONE)


def write_ahead() -> object:
    made = WriteAheadLog(NONE, cast(Any, SimpleNamespace(size=0)))
    made._log = BROKEN
    return made


def sessions() -> object:
    token = SimpleNamespace(label="", serial="", model="")
    module = SimpleNamespace(initialize=lambda: None, tokens=lambda: [token])
    options = PoolOptions(cast(Any, SimpleNamespace(among=lambda tokens: tokens[0])), "", 1)
    pool = SessionPool(cast(Any, module), options, BROKEN, METER)
    # What nobody foresaw of a module that is initialised again.
    module.initialize = BROKEN
    return pool


def watches() -> object:
    made = Watches(BROKEN, NONE, NONE, NONE, NONE)
    made._watches = cast(Any, {1})
    return made


def status() -> object:
    made = Status("s", "i")
    made.health = BROKEN
    made._health_names.append("s")
    return made


def health_rounds() -> object:
    return HealthRounds({CRYPTO: cast(Any, SimpleNamespace(method=lambda *_: BROKEN))})


# By the module that has them.
def client_key_uses() -> ClientKeyUses:
    made = ClientKeyUses(BROKEN)
    made.note("accounts/a/clientKeys/k", 1)
    return made


WORK: dict[str, Callable[[], object]] = {
    "services/audit/index/tree.py": index,
    "services/audit/log/sequencer.py": log,
    "services/audit/publication/publishing.py": publisher,
    "services/audit/retention/retention.py": lambda: RetentionWork([BROKEN]),
    "services/audit/keys/service_keys.py": lambda: Renewal([BROKEN]),
    "services/audit/logs/losses.py": losses,
    "services/audit/logs/storage_watch.py": lambda: StorageWatch(
        cast(Any, [SimpleNamespace(name="main", storage=BROKEN)]), METER
    ),
    "services/audit/publication/witnesses.py": witnesses,
    "services/audit/log/write_ahead.py": write_ahead,
    "services/crypto/providers/pkcs11/sessions.py": sessions,
    "services/doors/mesh/health.py": health_rounds,
    "services/keystore/access/accounts/ended_grants.py": lambda: EndedGrants(BROKEN),
    "services/keystore/access/credentials/later_notes.py": client_key_uses,
    "services/keystore/access/credentials/sessions.py": lambda: Sessions(BROKEN, "mesh.test", BROKEN),
    "services/keystore/work/bootstrap.py": lambda: SecretsKey(BROKEN, "a", NONE, NONE),
    "services/runtime/rpc/arrivals.py": arrivals,
    "services/runtime/rpc/dismissals.py": dismissals,
    "services/runtime/audit_client.py": audit_client,
    "services/runtime/changes.py": lambda: ChangeFeed(BROKEN),
    "services/runtime/work/due_work.py": due_work,
    "services/runtime/storage/outbox.py": lambda: Outbox(BROKEN, NONE),
    "services/runtime/storage/history.py": lambda: History(BROKEN, NONE),
    "services/runtime/storage/record_keys.py": lambda: RecordSealing(NONE, BROKEN, NONE, []),
    "services/runtime/rpc/status.py": status,
    "services/runtime/rpc/stream_ends.py": lambda: StreamEnds(BROKEN),
    "services/runtime/rpc/summaries.py": lambda: Summaries(BROKEN, NONE),
    "services/secrets/life/watching.py": watches,
}


def work_of(made: object) -> list[Background]:
    """The work that something does in the background."""
    held = [one for value in vars(made).values() for one in (value if isinstance(value, list) else [value])]
    return [one for one in held if isinstance(one, Background)]


def calling(name: str) -> set[str]:
    """The modules of the services that call something of this name."""
    found = set()
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
                found.add(str(path.relative_to(ROOT)))
    return found


def test_every_thread_that_works_in_rounds_is_one_of_these() -> None:
    assert calling("Background") == set(WORK)
    assert calling("Thread") == set(OTHER_THREADS)


@pytest.mark.parametrize("module", sorted(WORK))
def test_an_error_that_nobody_foresaw_ends_no_work_and_is_told(module: str) -> None:
    works = work_of(WORK[module]())
    assert works
    try:
        for one in works:
            one._first = one._again = 0.01
            if not one.is_alive:
                one.start()
        for one in works:

            def failed(one: Background = one) -> bool:
                one.wake()
                return one.failures["ZeroDivisionError"] >= 2

            until(failed, 20.0)
            assert one.is_alive
            assert one.failing == "ZeroDivisionError"
        assert all(is_told(one) for one in works)
        assert measured("background.failing") >= {one.name: 1 for one in works}.items()
        assert {one.name for one in works} <= dict(measured("background.failures")).keys()
    finally:
        for one in works:
            one.end()


def is_told(one: Background) -> bool:
    """Whether the status tells that it fails."""
    try:
        background.check()
    except StrongroomError as error:
        assert error.reason is Reason.INTERNAL
        return f"{one.name} (" in error.message
    return False


def measured(name: str) -> Any:
    """A metric's values by the work that they are of."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    background.measure(provider.get_meter("test"))
    data = reader.get_metrics_data()
    assert data is not None
    values: dict[str, float] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        if metric.name == name:
            for point in cast(Any, metric.data).data_points:
                values[point.attributes["work"]] = point.value
    provider.shutdown()
    return values.items()


def working(work: Callable[[], float | None], **options: Any) -> Background:
    made = Background("test", work, "it fails", **({"every": 0.0} | options))
    made.start()
    return made


def test_work_that_fails_for_a_while_is_told_until_it_is_done() -> None:
    failing = threading.Event()
    failing.set()

    def work() -> None:
        if failing.is_set():
            raise ValueError

    one = working(work, every=0.01)
    until(lambda: is_told(one), 10.0)
    failing.clear()
    until(lambda: not is_told(one), 10.0)
    one.stop()
    assert not one.is_alive


def test_a_round_that_hangs_is_told_until_it_ends() -> None:
    going_on = threading.Event()

    def work() -> None:
        going_on.wait(20.0)

    waiting = working(work, every=UNTIL_WOKEN, takes=NEVER)
    assert not is_told(waiting)
    one = working(work, every=UNTIL_WOKEN, takes=0.05)
    until(lambda: is_told(one), 10.0)
    assert not waiting.hangs
    waiting.end()
    going_on.set()
    until(lambda: not is_told(one), 10.0)
    one.stop()


def test_what_was_foreseen_is_counted_and_is_no_fault_of_the_process() -> None:
    def work() -> None:
        raise StrongroomError(Reason.DATABASE_UNAVAILABLE, "away")

    one = working(work, every=0.01)
    until(lambda: one.failures[Reason.DATABASE_UNAVAILABLE] >= 2, 10.0)
    assert not is_told(one)
    one.stop()


def test_a_cause_is_logged_once_and_not_by_every_round(caplog: pytest.LogCaptureFixture) -> None:
    one = working(BROKEN, every=0.001)
    until(lambda: one.failures["ZeroDivisionError"] > 20, 10.0)
    one.stop()
    assert [record.message for record in caplog.records] == ["it fails"]


def test_work_that_is_done_ends_its_thread() -> None:
    rounds: list[int] = []

    def work() -> float | None:
        rounds.append(1)
        return NEVER if len(rounds) == 3 else None

    one = working(work)
    until(lambda: not one.is_alive, 10.0)
    assert len(rounds) == 3


def test_work_that_waits_to_be_woken_is_done_when_it_is_and_once_more_in_the_end() -> None:
    rounds: list[int] = []
    one = working(lambda: rounds.append(1), every=UNTIL_WOKEN, first=UNTIL_WOKEN, finishes=True)
    one.wake()
    until(lambda: len(rounds) == 1, 10.0)
    one.stop()
    assert len(rounds) == 2


def test_each_is_done_whatever_another_raises() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("meant")

    with pytest.raises(ValueError, match="meant"):
        background.each([lambda: done.append(1), fail, lambda: done.append(2)])
    assert done == [1, 2]
