"""Who writes the log: one process at a time. The others wait, and take over when it ends or falls silent.

What keeps two from writing is in the database (sequencer.py): whoever takes over counts the writers up, and no earlier
one can append any more. The election only keeps the others from trying.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.audit.log import file_locks
from services.audit.storage.store import Head, LogStore, Standing
from services.runtime.errors import Reason, StrongroomError

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.1
_LOCKED_SECONDS = 1.5
_CHECK_SECONDS = 0.25
_SILENT_SECONDS = 2.0
"""After this long without a beat the writer counts as hung. It beats twice a second."""
# "Sequenc"; beside that of migrations.
_LOCK = 0x53657175656E63
# The session of the lock, and those in which an append was under way: they hold the end of the log.
_END_HOLDER = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE granted AND pid <> pg_backend_pid()"  # noqa: S608  # our own words
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND (locktype = 'advisory' AND objsubid = 1 AND classid = {_LOCK >> 32} AND objid = {_LOCK & 0xFFFFFFFF}"
    " OR locktype = 'relation' AND relation = 'heads'::regclass AND mode = 'RowExclusiveLock')"
)


Saw = Callable[[Head], None]


class Election(Protocol):
    """One candidate."""

    def try_to_win(self) -> bool:
        """Whether this process is the writer from now on. Raises AUDIT_STORAGE_FAILED."""

    def check(self) -> None:
        """Raises AUDIT_UNREACHABLE when it is not any more."""

    def give_up(self) -> None:
        """Lets another win."""


def election_for(engine: Engine, lost: Callable[[], None], saw: Saw = lambda _: None) -> Election:
    """The election for a database; `lost` is called when another has won it meanwhile, and `saw` with where the log
    ends, again and again while another writes it."""
    if engine.dialect.name == "sqlite":
        return FileElection(Path(str(engine.url.database)), LogStore(engine), lost, saw=saw)
    return AdvisoryElection(engine, lost, saw=saw)


def win(
    election: Election, stopped: Callable[[], bool] = lambda: False, on_wait: Callable[[], None] = lambda: None
) -> bool:
    """Returns once this process is the writer; False when it was `stopped` before. Where another is, `on_wait` gets
    ready for when that ends."""
    waiting = False
    while not _has_won(election):
        if stopped():
            return False
        if not waiting:
            log.info("another process writes the audit log; standing by")
            waiting = True
            on_wait()
        time.sleep(_RETRY_SECONDS)
    log.info("this process writes the audit log from now on")
    return True


def _has_won(election: Election) -> bool:
    try:
        return election.try_to_win()
    except StrongroomError as error:
        log.warning(
            "the database cannot be asked yet which process writes the audit log",
            extra={"fields": {"reason": error.reason}},
        )
        return False


class _Silence:
    """How long nobody has written the log, by this process's own clock."""

    def __init__(self, store: LogStore, limit_seconds: float, saw: Saw) -> None:
        self._store = store
        self._limit_seconds = limit_seconds
        self._saw = saw
        self._beat: tuple[Standing, int] | None = None
        self._changed = 0.0

    def is_long(self) -> bool:
        """Whether the writer counts as hung. Raises DATABASE_UNAVAILABLE and AUDIT_STORAGE_FAILED."""
        beat, now = self._store.beat_of_writer(), time.monotonic()
        if beat != self._beat:
            self._beat, self._changed = beat, now
            self._saw(beat[0].head)
        if now - self._changed <= self._limit_seconds:
            return False
        log.warning(
            "the process that writes the audit log does not answer; taking over",
            extra={"fields": {"epoch": beat[0].epoch}},
        )
        return True


class FileElection:
    """For SQLite: a lock on a file beside the database, which ends with the process.

    A process that hangs keeps its lock. Whoever stands by puts another file in that one's place when the writer has not
    beaten for two seconds: from then on that file is the one whose lock counts, and the hung process finds itself
    overtaken when it goes on. One that hangs in the middle of a transaction keeps all of SQLite locked, so it is ended.
    """

    def __init__(
        self,
        database: Path,
        store: LogStore,
        lost: Callable[[], None],
        *,
        silent_seconds: float = _SILENT_SECONDS,
        saw: Saw = lambda _: None,
    ) -> None:
        """A writer hangs that has not beaten for `silent_seconds`."""
        self._database = database
        self._path = database.with_name(f"{database.name}.sequencer")
        self._silence = _Silence(store, silent_seconds, saw)
        self._lost = lost
        self._file: int | None = None

    def try_to_win(self) -> bool:
        """Takes the lock if it is free, or another in its place where its holder hangs."""
        descriptor = self._locked(self._path, os.O_CREAT)
        if descriptor is not None and not self._is_in_place(descriptor):
            # Somebody put another file there meanwhile.
            os.close(descriptor)
            return False
        if descriptor is None and self._silence.is_long():
            self._unlock_database()
            descriptor = self._put_in_place()
        self._file = descriptor
        return descriptor is not None

    def check(self) -> None:
        """Finds out whether the file is the one whose lock counts."""
        if self._file is not None and not self._is_in_place(self._file):
            log.warning("another process has taken over the audit log; this one stands by again")
            self._lost()
            raise _overtaken()

    def give_up(self) -> None:
        """Gives the lock up."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _unlock_database(self) -> None:
        with closing(sqlite3.connect(self._database, timeout=_LOCKED_SECONDS, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                for process in file_locks.holders(self._path) & file_locks.holders(self._write_ahead_index) - {
                    os.getpid()
                }:
                    log.warning("it hangs in a transaction, and is ended", extra={"fields": {"pid": process}})
                    os.kill(process, signal.SIGKILL)

    @property
    def _write_ahead_index(self) -> Path:
        """The file whose locks are SQLite's."""
        return self._database.with_name(f"{self._database.name}-shm")

    def _put_in_place(self) -> int | None:
        own = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        own.unlink(missing_ok=True)
        descriptor = self._locked(own, os.O_CREAT | os.O_EXCL)
        own.replace(self._path)
        return descriptor

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            # Taken away by hand; who writes is in the database.
            return True

    @staticmethod
    def _locked(path: Path, flags: int) -> int | None:
        """A file's descriptor with its lock; None where another process has that."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor


class AdvisoryElection:
    """For PostgreSQL: an advisory lock of a session, which ends with its connection.

    A connection that was lost, as when the server restarts, is opened again, and the lock with it unless another was
    quicker. A process that hangs keeps its lock: whoever stands by ends that session when the writer has not beaten for
    two seconds, and the hung one finds itself overtaken when it goes on.
    """

    def __init__(
        self,
        engine: Engine,
        lost: Callable[[], None],
        *,
        silent_seconds: float = _SILENT_SECONDS,
        check_seconds: float = _CHECK_SECONDS,
        saw: Saw = lambda _: None,
    ) -> None:
        """A writer hangs that has not beaten for `silent_seconds`; its own lock is looked at every `check_seconds`."""
        self._engine = engine
        self._check_seconds = check_seconds
        self._silence = _Silence(LogStore(engine), silent_seconds, saw)
        self._lost = lost
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._checked = 0.0
        self._given_up = False

    def try_to_win(self) -> bool:
        """Takes the lock if it is free, or makes it free where its holder hangs."""
        try:
            with ExitStack() as stack:
                connection = stack.enter_context(self._engine.connect())
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                # Its session is kept: it must not go back to the others.
                connection.detach()
                if not connection.execute(text(f"SELECT pg_try_advisory_lock({_LOCK})")).scalar_one():
                    if self._silence.is_long():
                        connection.execute(text(_END_HOLDER))
                    return False
                stack.pop_all()
        except (DBAPIError, PoolTimeoutError) as error:
            raise _unreachable() from error
        self._connection = connection
        return True

    def check(self) -> None:
        """Looks four times a second at most. While the database is away nobody else can write either."""
        with self._lock:
            if self._given_up or time.monotonic() - self._checked < self._check_seconds:
                return
            if not self._is_held() and not self.try_to_win():
                log.warning("another process has taken over the audit log; this one stands by again")
                self._lost()
                raise _overtaken()
            self._checked = time.monotonic()

    def give_up(self) -> None:
        """Ends the session, and the lock with it, for good."""
        with self._lock:
            self._given_up = True
            connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except DBAPIError:  # it is gone then
                log.debug("the database session that held the log's lock was gone already")

    def _is_held(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except DBAPIError:
            self._connection = None
            return False
        return True


def _overtaken() -> StrongroomError:
    return StrongroomError(Reason.AUDIT_UNREACHABLE, "the audit log is written by another process now", peer="audit")


def _unreachable() -> StrongroomError:
    return StrongroomError(
        Reason.AUDIT_STORAGE_FAILED, "the audit log cannot be written: its database cannot be reached", peer="audit"
    )
