"""A MariaDB server whose tables, logs and temporary files are encrypted under keys that it has from a door."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql

from deploy.dev.topology import free_port

SERVER = Path("/usr/sbin/mariadbd")
PLUGIN = Path("/usr/lib/mysql/plugin/hashicorp_key_management.so")
_START_SECONDS = 40.0
_SMALL = ("--no-defaults", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M", "--skip-name-resolve")
# The plugin's own memory of keys: short, so that what a door says counts soon.
_CACHES = ("--hashicorp-key-management-cache-timeout=1000", "--hashicorp-key-management-cache-version-timeout=1000")


class EncryptedMariaDb:
    """A server in a directory of its own."""

    def __init__(self, directory: Path, url: str, token: str, trust: Path) -> None:
        """`url` is of the door's mount, `…/v1/mariadb`."""
        self.directory = directory
        self.data = directory / "data"
        self._port = free_port()
        self._socket = directory / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        own_trust = directory / "trust.pem"
        shutil.copyfile(trust, own_trust)
        token_file = directory / "token.cnf"
        token_file.write_text(f"[mariadbd]\nhashicorp-key-management-token={token}\n")
        self._owner: list[str] = []
        if os.geteuid() == 0:
            entry = pwd.getpwnam("mysql")
            for path in (directory, own_trust, token_file):
                os.chown(path, entry.pw_uid, entry.pw_gid)
            self._owner = ["--user=mysql"]
        self._encryption = [
            "--plugin-load-add=hashicorp_key_management",
            f"--hashicorp-key-management-vault-url={url}",
            f"--hashicorp-key-management-token={token}",
            f"--hashicorp-key-management-vault-ca={own_trust}",
            "--hashicorp-key-management-check-kv-version=on",
            "--hashicorp-key-management-timeout=3",
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
        ]

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
        where += ["--bind-address=127.0.0.1", f"--log-bin={self.data / 'binlog'}"]
        command = [str(SERVER), *_SMALL, *where, *self._owner, *self._encryption]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None:
            try:
                self.query("SELECT 1")
            except pymysql.Error:
                assert time.monotonic() < deadline, self.log.read_text()[-3000:]
                time.sleep(0.05)
            else:
                return True
        return False

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
        with (
            closing(pymysql.connect(unix_socket=str(self._socket), user="root", autocommit=True)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, arguments)
            rows: tuple[tuple[Any, ...], ...] = cursor.fetchall()
            return rows

    def holds(self, text: bytes) -> list[str]:
        """The files in the data directory that have a text in the clear."""
        files = [path for path in self.data.rglob("*") if path.is_file()]
        return [path.name for path in files if text in path.read_bytes()]
