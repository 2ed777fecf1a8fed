"""Each service's own database: SQLite embedded, PostgreSQL shared by replicas; SQLAlchemy Core over both."""

from __future__ import annotations

import logging
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry.metrics import Meter, Observation
from sqlalchemy import Connection, Engine, Insert, Pool, create_engine, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.runtime import telemetry
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.commits import Witness, may_stand, require_stands

log = logging.getLogger(__name__)

T = TypeVar("T")

_BEFORE = "before_commit"
_AFTERWARDS = "after_commit"
_WRITES = "writes"
_WITNESS = "witness"
# How long a caller waits for a connection of the pool.
_POOL_SECONDS = 5.0
_KEPT_SECONDS = 1.0
# Of a statement, in a trace.
_STATEMENT_CHARACTERS = 200
# Of the stack, in the log.
_FRAMES = 12
_AGAIN_SECONDS = 0.5
# SQLSTATE classes and codes of a server that is not there, or not the one that takes writes: connection exception,
# insufficient resources, operator intervention; read-only transaction, as on a primary that became a standby; and of a
# transaction that the server ended because it did nothing for long.
_AWAY = ("08", "53", "57P", "25006", "25P03", "25P04")
# Of one that had to wait for too long: for a lock, or for the answer to a statement. Its connection is as good as
# before.
_BUSY = ("55P03", "57014")


class _Held(threading.local):
    """The pools that this thread holds a connection of."""

    def __init__(self) -> None:
        self.pools: set[Pool] = set()


_held = _Held()


class SecondConnectionWarning(RuntimeWarning):
    """A thread asked for a connection of a database while it held one."""


class _Second:
    """How often threads of this process asked for a second connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def tell(self) -> None:
        """Counts it, and says where it was. Raises SecondConnectionWarning where that is made an error."""
        with self._lock:
            self.count += 1
        where = "".join(traceback.format_stack(limit=_FRAMES)[:-2])
        log.error("a thread asked for a second connection of a database", extra={"fields": {"where": where}})
        warnings.warn("a thread asked for a second connection of a database", SecondConnectionWarning, stacklevel=5)


_second = _Second()


def count_second_connections(meter: Meter) -> None:
    """Counts in a metric how often a thread asked for a second connection of a database, which none should."""
    meter.create_observable_counter(
        "database.second_connections",
        [lambda _: [Observation(_second.count)]],
        description="connections that threads asked for while they held one",
    )


def open_database(settings: Database, *, pool_seconds: float = _POOL_SECONDS) -> Engine:
    """An engine whose commits are durable: SQLite in WAL mode with synchronous=FULL, or PostgreSQL as configured."""
    # Without hide_parameters an error's text would show the values of its statement.
    options: dict[str, Any] = {
        "pool_size": settings.pool_size,
        "max_overflow": 0,
        "pool_timeout": pool_seconds,
        "hide_parameters": True,
    }
    if settings.url.startswith("sqlite"):
        path = Path(settings.url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(settings.url, **options)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "before_cursor_execute", _tell_trace)
        return engine
    # Its driver takes memory, and services on SQLite never need it.
    from services.runtime.storage import postgresql

    url = make_url(settings.url)
    # What the URL says itself wins.
    arguments = {name: value for name, value in postgresql.ARGUMENTS.items() if name not in url.query}
    engine = create_engine(url, pool_pre_ping=True, connect_args=arguments, **options)
    event.listen(engine, "do_connect", postgresql.Connecting())
    event.listen(engine, "handle_error", _throw_away)
    event.listen(engine, "before_cursor_execute", _tell_trace)
    return engine


def once_there(engine: Engine, work: Callable[[Connection], T], *, writes: bool = False) -> T:
    """What `work` answers once the database's server is there and stays for as long as that takes: for a service that
    is started before its database, or while that fails over. `work` is done anew when the connection is lost."""
    said = ""
    while True:
        try:
            options = {_WRITES: writes}
            with (
                engine.connect().execution_options(**options) as connection,
                connection.begin(),
                _patience(connection, wanted=True),
            ):
                return work(connection)
        except DBAPIError as error:
            if not isinstance(error, OperationalError) and not _is_away(error):
                raise
            if engine.dialect.name == "sqlite":
                raise SystemExit(f"the database cannot be opened: {error.orig}") from None
            why = next(iter(str(error.orig).splitlines()), "")
            if why != said:
                log.warning("waiting for the database", extra={"fields": {"why": why}})
                said = why
            time.sleep(_AGAIN_SECONDS)


def require_writable(engine: Engine, *, proof: bool = True) -> None:
    """Raises DATABASE_UNAVAILABLE while the database cannot be reached, or says that it takes no writes; for `proof`,
    also while it takes none whatever it says: something is committed durably that changes nothing and locks nothing.
    """
    with transaction(engine) if proof else reading(engine) as connection:
        if engine.dialect.name == "sqlite":
            number = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if proof:
                connection.exec_driver_sql(f"PRAGMA user_version = {1 - min(max(number, 0), 1)}")
        elif connection.execute(text("SELECT current_setting('transaction_read_only')")).scalar_one() == "on":
            # Those of before a failover stay connected to what is a standby now.
            connection.invalidate()
            raise _unavailable("it takes no writes")
        elif proof:
            connection.execute(text("SELECT pg_logical_emit_message(true, 'strongroom', '')"))


@contextmanager
def transaction(engine: Engine, *, patient: bool = False) -> Iterator[Connection]:
    """A transaction that writes: committed durably on leaving, rolled back on an exception. One that may take long is
    `patient`: all others are ended after seconds.

    Raises DATABASE_UNAVAILABLE when the database cannot be reached or written, or has no connection left, and then
    nothing was done; CHANGE_UNDECIDED where a COMMIT was not answered and it could not be found out what stands; a
    violated constraint passes through as SQLAlchemy's IntegrityError. Within it, and within `reading`, its thread asks
    for no other connection of the same database.
    """
    before: dict[Hashable, Callable[[], None]] = {}
    afterwards: list[Callable[[], None]] = []
    witnesses: list[Witness] = []
    options = {_WRITES: True, _BEFORE: before, _AFTERWARDS: afterwards, _WITNESS: witnesses}
    unanswered: DBAPIError | None = None
    with (
        _translated(),
        _only_connection(engine, options) as connection,
        connection.begin() as began,
        _patience(connection, wanted=patient),
    ):
        yield connection
        for last in before.values():
            last()
        try:
            began.commit()
        except DBAPIError as error:
            # What was not committed would stay open, with its locks, in the pool.
            connection.invalidate()
            if not may_stand(error):
                raise
            unanswered = error
    if unanswered is not None:
        require_stands(witnesses, partial(_has, engine), _unavailable(_cause(unanswered)))
    for action in afterwards:
        action()


def writes(connection: Connection) -> bool:
    """Whether a connection is in a transaction that writes."""
    return bool(connection.get_execution_options().get(_WRITES))


def before_commit(connection: Connection, key: Hashable, action: Callable[[], None]) -> None:
    """Does something once everything else of the `transaction` that this connection is in was done; of one key, what
    was asked for first."""
    connection.get_execution_options()[_BEFORE].setdefault(key, action)


def witnessed(connection: Connection, row: Insert) -> None:
    """Adds a row, of a key that nobody else uses, by which it is found out whether this `transaction` stands when its
    COMMIT is not answered. Nobody removes it within five seconds."""
    connection.execute(row)
    connection.get_execution_options()[_WITNESS].append(Witness(row, time.monotonic()))


def awaited(connection: Connection, key: Hashable) -> Callable[[], None] | None:
    """The action of this key for `before_commit`, if there is one."""
    found: Callable[[], None] | None = connection.get_execution_options().get(_BEFORE, {}).get(key)
    return found


def after_commit(connection: Connection, action: Callable[[], None]) -> None:
    """Does something once the `transaction` that this connection is in has committed, and never if it does not."""
    connection.get_execution_options()[_AFTERWARDS].append(action)


class KeptConnection:
    """Transactions that write and follow each other closely, by one thread at a time: each on the connection of the one
    before it, at less than half the price of `transaction`. Nothing can be done `after_commit` of one.
    """

    def __init__(self, engine: Engine, idle_seconds: float = _KEPT_SECONDS) -> None:
        """One that was idle for `idle_seconds` is given back."""
        self._engine = engine
        self._idle_seconds = idle_seconds
        self._connection: Connection | None = None
        self._used = 0.0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction on the connection that is kept. Raises what `transaction` of this module does."""
        with _translated():
            connection = self._open()
            try:
                with connection.begin():
                    yield connection
            except BaseException:
                self.close()
                raise
            self._used = time.monotonic()

    def close(self) -> None:
        """Gives the connection back; the next transaction gets another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> Connection:
        # The pool finds out whether one that was idle for long is still good.
        if self._connection is not None and time.monotonic() - self._used > self._idle_seconds:
            self.close()
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(**{_WRITES: True})
        return self._connection


def deliberate(connection: Connection) -> None:
    """Lets a `transaction` do nothing for seconds between two statements, while it decides; it locks no more than a few
    wait for."""
    if connection.dialect.name == "postgresql":
        from services.runtime.storage import postgresql

        postgresql.deliberate(connection)


@contextmanager
def reading(engine: Engine, *, patient: bool = False) -> Iterator[Connection]:
    """A read-only view of the database as of one moment; `patient` as of `transaction`."""
    options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with (
        _translated(),
        _only_connection(engine, options) as connection,
        connection.begin(),
        _patience(connection, wanted=patient),
    ):
        yield connection


def _patience(connection: Connection, *, wanted: bool) -> AbstractContextManager[None]:
    if not wanted or connection.dialect.name != "postgresql":
        return nullcontext()
    from services.runtime.storage import postgresql

    return postgresql.patience(connection)


@contextmanager
def _only_connection(engine: Engine, options: Mapping[str, Any]) -> Iterator[Connection]:
    """A connection of the pool, and no second one for a thread: as many threads with one as the pool has connections
    would all wait for another that none of them gives back.

    Where a path breaks that rule, a call that would most likely be answered is: it is logged, counted and warned of.
    Tests make the warning an error.
    """
    is_second = engine.pool in _held.pools
    if is_second:
        _second.tell()
    with engine.connect().execution_options(**options) as connection:
        if is_second:
            yield connection
            return
        _held.pools.add(engine.pool)
        try:
            yield connection
        finally:
            _held.pools.discard(engine.pool)


def _has(engine: Engine, row: Insert) -> bool:
    """Whether a row is there. Adding it again waits for the end of the transaction that added it, wherever that is."""
    with _translated(), _only_connection(engine, {_WRITES: True}) as connection, connection.begin() as began:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))
        try:
            connection.execute(row)
        except IntegrityError:
            return True
        began.rollback()
    return False


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error, OperationalError) and not _sqlstate(error).startswith((*_AWAY, *_BUSY)):
            raise
        raise _unavailable(_cause(error)) from error
    except NoResultFound as error:
        # Asked for with `scalar_one`: one that the service made once and for all.
        raise _unavailable("a row that it always has was taken away") from error
    except PoolTimeoutError as error:
        raise _unavailable("each of its connections was in use for as long as a caller waits") from error


def _tell_trace(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    """Every statement of a call whose trace is recorded is an event of its span, without values."""
    trace = telemetry.current()
    if trace is not None and trace.span is not None:
        trace.span.add_event("database", {"statement": " ".join(statement.split())[:_STATEMENT_CHARACTERS]})


def _throw_away(context: ExceptionContext) -> None:
    """A connection to a server that takes no writes is not used again, nor any other of its age."""
    if _is_away(context):
        context.is_disconnect = True


def _is_away(error: DBAPIError | ExceptionContext) -> bool:
    return _sqlstate(error).startswith(_AWAY)


def _sqlstate(error: DBAPIError | ExceptionContext) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error.original_exception
    return str(getattr(cause, "sqlstate", None) or "")


def _unavailable(why: str) -> StrongroomError:
    return StrongroomError(Reason.DATABASE_UNAVAILABLE, f"the database cannot be used ({why})", peer="database")


def _cause(error: DBAPIError) -> str:
    """SQLite's error name or the driver's exception type: what is wrong, with no value from any statement."""
    return str(getattr(error.orig, "sqlite_errorname", "") or type(error.orig).__name__)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun by _begin_sqlite, not by the driver.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the write lock first: two that both began by reading would deadlock into SQLITE_BUSY.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes(connection) else "BEGIN")
