"""MariaDB servers: one as it is, and one whose tables, logs and sort files are encrypted under keys that it has from a
door."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import SSCursor

from deploy.dev.topology import free_port

SERVER = Path("/usr/sbin/mariadbd")
PLUGIN = Path("/usr/lib/mysql/plugin/hashicorp_key_management.so")
_START_SECONDS = 40.0
_SMALL = ("--no-defaults", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M", "--skip-name-resolve")
# So that what it sorts is more than it keeps in memory.
_SORTS_IN_FILES = "--sort-buffer-size=32K"
# For how long the plugin takes keys from its own memory: a door that is busy just when it asks ends the server.
_CACHES = [f"--hashicorp-key-management-cache-{what}=600000" for what in ("timeout", "version-timeout")]
CACHE_SECONDS = 1.0
"""For how long it does so where what a door says is to count soon."""


class MariaDb:
    """A server in a directory of its own."""

    def __init__(self, directory: Path, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self.data = directory / "data"
        self._options = options
        self._port = free_port()
        self._socket = directory / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: list[str] = []
        self._temporary = directory / "tmp"
        self._temporary.mkdir()
        if os.geteuid() == 0:
            self._owner = ["--user=mysql"]
            entry = pwd.getpwnam("mysql")
            for path in (directory, *directory.iterdir()):
                os.chown(path, entry.pw_uid, entry.pw_gid)

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.directory / "log"

    def install(self) -> None:
        """Makes its system tables."""
        method = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(
            ["mariadb-install-db", *_SMALL, f"--datadir={self.data}", *self._owner, *method],
            check=True,
            capture_output=True,
            timeout=120,
        )

    def start(self) -> bool:
        """Starts the server: whether it serves, or has ended by itself."""
        where = [f"--datadir={self.data}", f"--port={self._port}", f"--socket={self._socket}"]
        where += ["--bind-address=127.0.0.1", f"--log-bin={self.data / 'binlog'}", f"--tmpdir={self._temporary}"]
        command = [str(SERVER), *_SMALL, *where, _SORTS_IN_FILES, *self._owner, *self._options]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while self.runs():
            try:
                self.query("SELECT 1")
            except pymysql.Error:
                assert time.monotonic() < deadline, self.log.read_text()[-3000:]
                time.sleep(0.05)
            else:
                return True
        return False

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stops the server in order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def query(self, statement: str, arguments: Sequence[object] = ()) -> tuple[tuple[Any, ...], ...]:
        """What a statement answers, as root."""
        with closing(self._connected()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, arguments)
            rows: tuple[tuple[Any, ...], ...] = cursor.fetchall()
            return rows

    def forgets(self) -> None:
        """From now on it remembers keys for CACHE_SECONDS, until it is started again."""
        for what in ("timeout", "version_timeout"):
            self.query(f"SET GLOBAL hashicorp_key_management_cache_{what} = {int(CACHE_SECONDS * 1000)}")

    @contextmanager
    def reading(self, *statements: str) -> Iterator[None]:
        """While the answer to the last statement, which is a long one, has begun to come: what the server keeps of it
        in files is there."""
        with closing(self._connected()) as connection:
            *before, last = statements
            with connection.cursor() as cursor:
                for statement in before:
                    cursor.execute(statement)
            with connection.cursor(SSCursor) as cursor:
                cursor.execute(last)
                assert cursor.fetchone()
                yield

    def holds(self, text: bytes) -> list[str]:
        """The files in the data directory that have a text in the clear."""
        files = [path for path in self.data.rglob("*") if path.is_file()]
        return [path.name for path in files if text in path.read_bytes()]

    def holds_open(self, text: bytes) -> list[str]:
        """The files that it has open, and that have a text in the clear: those without a name too."""
        assert self._process is not None
        found = []
        for link in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with suppress(OSError):
                target = str(link.readlink())
                if target.startswith(str(self.directory)) and text in link.read_bytes():
                    found.append(target.removeprefix(f"{self.directory}/"))
        return found

    def _connected(self) -> pymysql.Connection[Any]:
        return pymysql.connect(unix_socket=str(self._socket), user="root", autocommit=True)


def encrypted(directory: Path, url: str, token: str, trust: Path) -> MariaDb:
    """A server with the options of docs/doors/vault/mariadb.md; `url` is of the door's mount, `…/v1/mariadb`."""
    own_trust = directory / "trust.pem"
    shutil.copyfile(trust, own_trust)
    return MariaDb(
        directory,
        [
            "--plugin-load-add=hashicorp_key_management",
            f"--hashicorp-key-management-vault-url={url}",
            f"--hashicorp-key-management-token={token}",
            f"--hashicorp-key-management-vault-ca={own_trust}",
            "--hashicorp-key-management-check-kv-version=on",
            "--hashicorp-key-management-max-retries=0",
            *_CACHES,
            "--innodb-encrypt-tables=FORCE",
            "--innodb-encrypt-log=ON",
            "--innodb-encrypt-temporary-tables=ON",
            "--innodb-encryption-threads=2",
            "--innodb-encryption-rotate-key-age=1",
            "--encrypt-tmp-files=ON",
            "--encrypt-tmp-disk-tables=ON",
            "--aria-encrypt-tables=ON",
            "--encrypt-binlog=ON",
        ],
    )
