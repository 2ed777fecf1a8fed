"""Real targets for rotations, each a server of the tests' own on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pymysql
import redis

from deploy.dev.redis_server import find_redis, wait_for_redis
from deploy.dev.topology import HOST, free_port

_START_SECONDS = 60.0
MARIADB = "/usr/sbin/mariadbd"
SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens, and who administers it."""

    port: int
    username: str = ""
    password: str = ""


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def wait_for(answers: Callable[[], object], *errors: type[Exception], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            answers()
        except errors:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
        else:
            return


@contextmanager
def mariadb() -> Iterator[Server]:
    """MariaDB with an administrator who may make and change users."""
    directory = Path(tempfile.mkdtemp(prefix="strongroom-mariadb-"))
    port, log = free_port(), directory / "log"
    owner = []
    if os.geteuid() == 0:
        entry = pwd.getpwnam("mysql")
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        owner = ["--user=mysql"]
    data = f"--datadir={directory / 'data'}"
    small = ["--no-defaults", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M"]
    subprocess.run(
        ["mariadb-install-db", *small, data, *owner, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    command = [MARIADB, *small, data, *owner, f"--port={port}", f"--socket={directory / 'socket'}"]
    quick = ["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve"]
    try:
        with running([*command, *quick], log):

            def administrate() -> None:
                root = pymysql.connect(unix_socket=str(directory / "socket"), user="root")
                with root, root.cursor() as cursor:
                    cursor.execute("CREATE OR REPLACE USER admin@'%%' IDENTIFIED BY 'master password'", ())
                    cursor.execute("GRANT ALL ON *.* TO admin@'%%' WITH GRANT OPTION", ())
                    cursor.execute("CREATE DATABASE IF NOT EXISTS shop", ())

            wait_for(administrate, pymysql.Error, log=log)
            yield Server(port, "admin", "master password")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def redis_server(directory: Path) -> Iterator[Server]:
    """Redis with an administrator of its access control lists, which are kept in a file."""
    executable = find_redis()
    assert executable is not None
    port, acl = free_port(), directory / "users.acl"
    acl.write_text("user default on nopass ~* +@all\nuser admin on >master-password ~* +@all\n")
    command = [str(executable), "--port", str(port), "--bind", HOST, "--save", "", "--aclfile", str(acl)]
    with running([*command, "--dir", str(directory)], directory / "redis.log"):
        assert wait_for_redis(port, _START_SECONDS)
        yield Server(port, "admin", "master-password")


@dataclass(frozen=True, slots=True)
class SshServer:
    """An sshd whose users' homes are `home`."""

    port: int
    username: str
    home: Path
    host_key: str

    @property
    def authorized_keys(self) -> Path:
        return self.home / ".ssh" / "authorized_keys"


@contextmanager
def ssh_server(directory: Path) -> Iterator[SshServer]:
    """OpenSSH's sshd, for the user that runs the tests, whose real home stays out of it."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    home = directory / "home"
    (home / ".ssh").mkdir(parents=True)
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    host_key.write_private_key(str(directory / "host_key"))
    (directory / "host_key").chmod(0o600)
    port = free_port()
    username = pwd.getpwuid(os.geteuid()).pw_name
    settings = {
        "Port": port,
        "ListenAddress": HOST,
        "HostKey": directory / "host_key",
        "AuthorizedKeysFile": home / ".ssh" / "authorized_keys",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "MaxStartups": "200",
        "PerSourceMaxStartups": "none",
        "Subsystem": f"sftp internal-sftp -d {home}",
    }
    configuration = directory / "sshd_config"
    configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with running([SSHD, "-D", "-e", "-f", str(configuration)], directory / "sshd.log"):

        def greet() -> None:
            with socket.create_connection((HOST, port), timeout=1) as connection:
                assert connection.recv(4) == b"SSH-"

        wait_for(greet, OSError, log=directory / "sshd.log")
        yield SshServer(port, username, home, host_key.export_public_key("openssh").decode().strip())


def redis_accepts(server: Server, username: str, password: str) -> bool:
    client = redis.Redis(port=server.port, username=username, password=password)
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return False
    finally:
        client.close()
