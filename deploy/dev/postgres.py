"""A PostgreSQL cluster of our own on a free port, for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg
from psycopg import sql

from deploy.dev.files import write_file
from deploy.dev.processes import Owner, Process
from deploy.dev.topology import HOST, free_port

_OWNER = "strongroom"
_START_SECONDS = 30.0


class PostgresError(Exception):
    """The cluster could not be made or started; the message holds what PostgreSQL said."""


def find_postgres() -> Path | None:
    """The directory of the newest installed server's binaries (`initdb`, `postgres`)."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgresCluster:
    """A cluster in a temporary directory; a context manager that starts it and removes it again.

    `durable=False` leaves out fsync: what was committed then survives a killed server, but not a power cut. One with a
    `primary` is a hot standby of that one, until it is promoted. `environment` is added to the server's own.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        durable: bool = False,
        primary: PostgresCluster | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._binaries = binaries
        self._environment = {**os.environ, **(environment or {})}
        self._durable = durable
        # PostgreSQL refuses to run as root, and its user must be able to reach its files.
        self._owner = _unprivileged_user() if os.geteuid() == 0 else None
        self._directory = Path(tempfile.mkdtemp(prefix="strongroom-postgres-"))
        self._primary = primary
        self._password: str = primary._password if primary else secrets.token_hex(16)  # noqa: SLF001  # its own kind
        self.port = free_port()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        try:
            self._initialize()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def create_database(self, name: str, template: str = "template1") -> str:
        """Makes a database, a copy of another that nobody is connected to, and answers its URL, as SQLAlchemy with
        psycopg takes it."""
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        self._execute(made)
        return f"postgresql+psycopg://{_OWNER}:{self._password}@{HOST}:{self.port}/{name}"

    def drop_database(self, name: str) -> None:
        """Removes a database and everyone's connections to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def query(self, database: str, statement: LiteralString) -> list[tuple[Any, ...]]:
        """What a statement answers in a database."""
        with self._connect(database) as connection:
            return connection.execute(statement).fetchall()

    def promote(self) -> None:
        """Makes a standby take writes; it does when this returns."""
        self._execute(sql.SQL("SELECT pg_promote(true)"))

    def fence(self) -> None:
        """Leaves sessions as they are and takes no more writes in them, as a primary does that was demoted."""
        self._execute(sql.SQL("ALTER SYSTEM SET default_transaction_read_only = on"))
        self._execute(sql.SQL("SELECT pg_reload_conf()"))

    def replicate_synchronously(self) -> None:
        """From now on a commit is answered once a standby has it too: none is lost when that one is promoted."""
        self._execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = '*'"))
        self._execute(sql.SQL("SELECT pg_reload_conf()"))

    def fall_behind(self) -> None:
        """A standby gets no more of what is committed from now on."""
        self._execute(sql.SQL("ALTER SYSTEM SET primary_conninfo = ''"))
        self._execute(sql.SQL("SELECT pg_reload_conf()"))
        deadline = time.monotonic() + _START_SECONDS
        while self.query("postgres", "SELECT 1 FROM pg_stat_wal_receiver"):
            if time.monotonic() > deadline:
                raise PostgresError("the standby follows still")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL to the server and its sessions, hung or not. Its files stay until `stop`."""
        if self._process is not None:
            sessions = self._sessions()
            self._process.kill()
            _signal(sessions, signal.SIGKILL)

    def hang(self) -> None:
        """SIGSTOP to the server and its sessions: connections stay open, the kernel accepts more, nothing answers."""
        if self._process is not None:
            self._process.suspend()
            _signal(self._sessions(), signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends `hang`."""
        if self._process is not None:
            _signal(self._sessions(), signal.SIGCONT)
            self._process.resume()

    def drain(self) -> None:
        """Takes no more sessions, and ends with the last that there is."""
        if self._process is not None and self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGTERM)

    def begin_to_start(self) -> None:
        """Starts a server that has drained again, as one that is starting for as long as it runs: it waits for a log
        that never comes."""
        if self._process is None or self._process.wait(_START_SECONDS) is None:
            raise PostgresError("PostgreSQL runs still")
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'sleep 3600'\n")
        write_file(self._data / "standby.signal", "", mode=0o600)
        if self._owner is not None:
            os.chown(self._data / "standby.signal", self._owner.uid, self._owner.gid)
        self._process.start()

    def stop(self) -> None:
        """Stops the server and removes its files."""
        if self._process is not None:
            self._process.terminate(how=signal.SIGINT)  # "fast": open connections are ended
        shutil.rmtree(self._directory, ignore_errors=True)

    def _sessions(self) -> list[int]:
        """The server's other processes, each of which leads a group of its own."""
        pid = self._process.pid if self._process is not None else None
        with suppress(FileNotFoundError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _initialize(self) -> None:
        password_file = self._directory / "password"
        write_file(password_file, self._password, mode=0o600)
        if self._owner is not None:
            for path in (self._directory, password_file):
                os.chown(path, self._owner.uid, self._owner.gid)
        making = self._making(password_file)
        done = subprocess.run(
            self._owner.command(making) if self._owner else making,
            cwd=self._directory,
            env={**os.environ, "PGPASSWORD": self._password},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PostgresError(f"the cluster was not made: {(done.stderr or done.stdout).strip()}")

    def _making(self, password_file: Path) -> list[str]:
        if self._primary is not None:
            source = f"--host={HOST}", f"--port={self._primary.port}", f"--username={_OWNER}"
            copying = "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"
            return [str(self._binaries / "pg_basebackup"), f"--pgdata={self._data}", *source, *copying]
        access = "--auth=scram-sha-256", f"--pwfile={password_file}"
        return [
            *(str(self._binaries / "initdb"), f"--pgdata={self._data}", f"--username={_OWNER}"),
            *(*access, "--encoding=UTF8", "--locale=C", "--no-sync"),
        ]

    def _start(self) -> None:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self._directory,
            "max_connections": 200,
            # A standby whose primary was killed sleeps this long, also where it is promoted meanwhile; 5 s by default.
            "wal_retrieve_retry_interval": "200ms",
            "fsync": "on" if self._durable else "off",
        }
        self._process = Process(
            "postgres",
            [
                *(str(self._binaries / "postgres"), "-D", str(self._data)),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            logs=self._directory,
            directory=self._directory,
            environment=self._environment,
            owner=self._owner,
        )
        self._process.start()
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._execute(sql.SQL("SELECT 1"))
            except psycopg.OperationalError as error:
                if not self._process.running or time.monotonic() > deadline:
                    raise PostgresError(f"PostgreSQL did not start: {error}\n{self._process.tail()}") from error
                time.sleep(0.05)
            else:
                return

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with self._connect("postgres") as connection:
            connection.execute(statement)

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=HOST, port=self.port, user=_OWNER, password=self._password, dbname=database, autocommit=True
        )


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _unprivileged_user() -> Owner:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Owner(entry.pw_uid, entry.pw_gid)
    raise PostgresError("PostgreSQL does not run as root, and this machine has neither user postgres nor nobody")
