"""Each service's own database: SQLite embedded, PostgreSQL shared by replicas; SQLAlchemy Core over both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError

_AFTERWARDS = "after_commit"
# How long a caller waits for a connection of the pool.
_POOL_SECONDS = 5.0
_KEPT_SECONDS = 1.0


def open_database(settings: Database) -> Engine:
    """An engine whose commits are durable: SQLite in WAL mode with synchronous=FULL, or PostgreSQL as configured."""
    # Without hide_parameters an error's text would show the values of its statement.
    options: dict[str, Any] = {
        "pool_size": settings.pool_size,
        "max_overflow": 0,
        "pool_timeout": _POOL_SECONDS,
        "hide_parameters": True,
    }
    if settings.url.startswith("sqlite"):
        path = Path(settings.url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(settings.url, **options)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(settings.url, pool_pre_ping=True, **options)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed durably on leaving, rolled back on an exception.

    Raises DATABASE_UNAVAILABLE when the database cannot be reached or written, or has no connection left; a violated
    constraint passes through as SQLAlchemy's IntegrityError.
    """
    afterwards: list[Callable[[], None]] = []
    options = {"writes": True, _AFTERWARDS: afterwards}
    with _translated(), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection
    for action in afterwards:
        action()


def after_commit(connection: Connection, action: Callable[[], None]) -> None:
    """Does something once the `transaction` that this connection is in has committed, and never if it does not."""
    connection.get_execution_options()[_AFTERWARDS].append(action)


class KeptConnection:
    """Transactions that write and follow each other closely, by one thread at a time: each on the connection of the one
    before it, at less than half the price of `transaction`. Nothing can be done `after_commit` of one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._used = 0.0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """As the function of this name, and raises the same."""
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
        if self._connection is not None and time.monotonic() - self._used > _KEPT_SECONDS:
            self.close()
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(writes=True)
        return self._connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read-only view of the database as of one moment."""
    options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with _translated(), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise _unavailable(_cause(error)) from error
    except PoolTimeoutError as error:
        raise _unavailable(f"each of its connections was in use for {_POOL_SECONDS:g} s") from error


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
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
