"""Who writes the log: one process at a time. The others wait, and take over when it ends.

What keeps two from writing is the log's head, which an append moves only from where the writer left it. The election
only keeps the others from trying.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from services.runtime.errors import Reason, StrongroomError

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.2
_CHECK_SECONDS = 0.25
# "Sequenc"; beside that of migrations.
_LOCK = 0x53657175656E63


class Election(Protocol):
    """One candidate."""

    def try_to_win(self) -> bool:
        """Whether this process is the writer from now on. Raises DATABASE_UNAVAILABLE."""

    def check(self) -> None:
        """Raises AUDIT_STORAGE_FAILED when it is not any more, or that cannot be known."""


def election_for(engine: Engine, lost: Callable[[], None]) -> Election:
    """The election for a database; `lost` is called when another has won it meanwhile."""
    if engine.dialect.name == "sqlite":
        return FileElection(Path(str(engine.url.database)))
    return AdvisoryElection(engine, lost)


def win(election: Election) -> None:
    """Returns once this process is the writer."""
    waiting = False
    while not _has_won(election):
        if not waiting:
            log.info("another process writes the log; standing by")
            waiting = True
        time.sleep(_RETRY_SECONDS)
    log.info("this process writes the log")


def _has_won(election: Election) -> bool:
    try:
        return election.try_to_win()
    except StrongroomError as error:
        log.warning("no election yet", extra={"fields": {"reason": error.reason}})
        return False


class FileElection:
    """For SQLite: a lock on a file beside the database, which ends with the process."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.sequencer")
        self._file: int | None = None

    def try_to_win(self) -> bool:
        """See Election."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._file = descriptor
        return True

    def check(self) -> None:
        """The lock cannot be lost."""

    def close(self) -> None:
        """Gives it up."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class AdvisoryElection:
    """For PostgreSQL: an advisory lock of a session, which ends with its connection.

    A connection that was lost, as when the server restarts, is opened again, and the lock with it unless another was
    quicker.
    """

    def __init__(self, engine: Engine, lost: Callable[[], None]) -> None:
        self._engine = engine
        self._lost = lost
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._checked = 0.0

    def try_to_win(self) -> bool:
        """See Election."""
        try:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            # Its session is kept: it must not go back to the others.
            connection.detach()
            won = bool(connection.execute(text(f"SELECT pg_try_advisory_lock({_LOCK})")).scalar_one())
        except DBAPIError as error:
            raise _unreachable() from error
        if not won:
            connection.close()
            return False
        self._connection = connection
        return True

    def check(self) -> None:
        """Looks four times a second at most."""
        with self._lock:
            if time.monotonic() - self._checked < _CHECK_SECONDS:
                return
            if not self._is_held() and not self.try_to_win():
                log.error("another process writes the log now; this one ends")
                self._lost()
                raise StrongroomError(
                    Reason.AUDIT_STORAGE_FAILED, "the audit log is written by another process now", peer="audit"
                )
            self._checked = time.monotonic()

    def _is_held(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except DBAPIError:
            self._connection = None
            return False
        return True


def _unreachable() -> StrongroomError:
    return StrongroomError(
        Reason.AUDIT_STORAGE_FAILED, "the audit log cannot be written: its database cannot be reached", peer="audit"
    )
