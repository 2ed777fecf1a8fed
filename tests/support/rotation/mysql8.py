"""MySQL 8 itself, which Debian has not, as a target of rotations."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.dev.topology import HOST, free_port
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_MYSQL
from strongroom.secrets.v1.target_pb2 import (
    DATABASE_STRATEGY_DUAL_USER,
    DatabaseTarget,
    RotationTarget,
    TargetAddress,
)
from tests.support.rotation.lab import Lab
from tests.support.rotation.servers import Server, TlsServer, running, server_certificate, wait_for
from tests.support.rotation.subjects import login, master_of

ADMINISTRATOR = Server(0, "admin", "master password")


@contextmanager
def mysql8(directory: Path) -> Iterator[TlsServer]:
    """The server in `directory` with an administrator who may make and change users."""
    own = Path(tempfile.mkdtemp(prefix="strongroom-mysql8-"))
    # Its OpenSSL 1.0.2 offers no elliptic curves.
    files = server_certificate(own, rsa.generate_private_key(65537, 2048))
    port, log = free_port(), own / "log"
    owner = ["--user=root"] if os.geteuid() == 0 else []
    command = [
        str(directory / "bin" / "mysqld"),
        "--no-defaults",
        f"--basedir={directory}",
        f"--datadir={own / 'data'}",
    ]
    small = ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M", "--performance-schema=OFF", *owner]
    protected = [f"--ssl-cert={files.certificate}", f"--ssl-key={files.key}", f"--ssl-ca={files.trust}"]
    listening = [f"--port={port}", f"--socket={own / 'socket'}", f"--bind-address={HOST}", "--mysqlx=OFF"]
    quick = ["--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--skip-name-resolve"]
    try:
        subprocess.run([*command, *small, "--initialize-insecure"], check=True, capture_output=True)
        with running([*command, *small, *listening, *quick, *protected], log):

            def administrate() -> None:
                root = pymysql.connect(unix_socket=str(own / "socket"), user="root")
                with root, root.cursor() as cursor:
                    name, password = ADMINISTRATOR.username, ADMINISTRATOR.password
                    cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (name, password))
                    cursor.execute("GRANT ALL ON *.* TO %s@'%%' WITH GRANT OPTION", (name,))
                    cursor.execute("CREATE DATABASE shop")
                    cursor.execute("CREATE TABLE shop.orders (number INT, note TEXT)")

            wait_for(administrate, pymysql.err.OperationalError, log=log)
            yield TlsServer(Server(port, ADMINISTRATOR.username, ADMINISTRATOR.password), port, files.trust.read_text())
    finally:
        shutil.rmtree(own, ignore_errors=True)


@dataclass(frozen=True)
class Mysql8:
    """A user of it for each secret. Its passwords go over TLS to a server that was verified, as its usual plugin
    needs."""

    at: TlsServer

    def create(self, lab: Lab, secret_id: str, how: str = "", *, dual: bool = False, master: bool = False) -> str:
        """A user with so much after its name, and the secret that holds its login; what the user is called."""
        username, password = f"u_{secret_id}", secrets.token_hex(8)
        self.execute(f"CREATE USER %s@'%%' IDENTIFIED {how or 'BY %s'}", username, password)
        self.execute("GRANT SELECT ON shop.* TO %s@'%%'", username)
        where = TargetAddress(host=HOST, port=self.at.port, ca_pem=self.at.trust)
        target = DatabaseTarget(address=where, database="shop", username=username)
        if dual:
            target.strategy = DATABASE_STRATEGY_DUAL_USER
        if dual or master:
            target.master_secret = master_of(lab, secret_id, self.at.server)
        lab.create(secret_id, SECRET_TYPE_MYSQL, login(username, password), RotationTarget(database=target))
        return username

    def refusal(self, value: bytes) -> int:
        """The number of the error that a login with this value ends in; 0 where it is let in."""
        found = json.loads(value)
        try:
            self.connect(found["username"], found["password"]).close()
        except pymysql.OperationalError as error:
            return int(error.args[0])
        return 0

    def connect(self, username: str, password: str) -> Any:
        """A session in the database that every user has a right to."""
        return pymysql.connect(
            host=HOST,
            port=self.at.port,
            user=username,
            password=password,
            database="shop",
            autocommit=True,
            ssl={"check_hostname": False},
        )

    def execute(self, statement: str, *values: str) -> Any:
        """What a statement of the administrator's answers."""
        server = self.at.server
        with self.connect(server.username, server.password) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()
