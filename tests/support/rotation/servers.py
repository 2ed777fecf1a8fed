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
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex

import asyncssh
import psycopg
import pymysql
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from deploy.dev.certificates import CertificateFiles
from deploy.dev.redis_server import find_redis, wait_for_redis
from deploy.dev.topology import HOST, free_port

_START_SECONDS = 60.0
MARIADB = "/usr/sbin/mariadbd"
SSHD = "/usr/sbin/sshd"
_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


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


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A server that takes TLS too: where, and which authority its certificate is of."""

    server: Server
    port: int
    """For TLS."""
    trust: str
    """The authority, in PEM. The certificate is for the address 127.0.0.1, and for no name."""


def server_certificate(directory: Path, key: _Key | None = None) -> CertificateFiles:
    """A certificate for the address 127.0.0.1 alone, and the authority that issued it. Of an old server `key` is an RSA
    key."""
    files = CertificateFiles(directory / "certificate.pem", directory / "key.pem", directory / "authority.pem")
    now, issuer = datetime.now(UTC), f"targets {token_hex(4)}"

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def begun(subject: str, public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(name(issuer), name(subject), public_key, x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=1))

    authority, key = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())
    trusted = begun(issuer, authority.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    alternatives = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))])
    issued = begun("target", key.public_key()).add_extension(alternatives, critical=False)
    files.trust.write_bytes(trusted.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    files.certificate.write_bytes(issued.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.key.chmod(0o600)
    return files


def turn_tls_on(server: Server, files: CertificateFiles) -> TlsServer:
    """A PostgreSQL server that takes TLS from now on, beside what it took before."""
    login = {"host": HOST, "port": server.port, "user": server.username, "password": server.password}
    with psycopg.connect(**login, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]
        ((data,),) = connection.execute("SHOW data_directory").fetchall()
        owner = Path(data).stat()
        for source, its_own in ((files.certificate, "server.crt"), (files.key, "server.key")):
            target = Path(data) / its_own
            target.touch(0o600)
            target.write_bytes(source.read_bytes())
            os.chown(target, owner.st_uid, owner.st_gid)
        connection.execute("ALTER SYSTEM SET ssl = on")
        connection.execute("SELECT pg_reload_conf()")
    return TlsServer(server, server.port, files.trust.read_text())


@contextmanager
def mariadb(files: CertificateFiles) -> Iterator[TlsServer]:
    """MariaDB with an administrator who may make and change users."""
    directory = Path(tempfile.mkdtemp(prefix="strongroom-mariadb-"))
    port, log = free_port(), directory / "log"
    owner = []
    if os.geteuid() == 0:
        entry = pwd.getpwnam("mysql")
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        owner = ["--user=mysql"]
    protected = []
    for option, file in (("cert", files.certificate), ("key", files.key), ("ca", files.trust)):
        own = directory / file.name
        shutil.copyfile(file, own)
        if os.geteuid() == 0:
            os.chown(own, entry.pw_uid, entry.pw_gid)
        protected.append(f"--ssl-{option}={own}")
    data = f"--datadir={directory / 'data'}"
    small = ["--no-defaults", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M"]
    installing = ["mariadb-install-db", *small, data, *owner, "--auth-root-authentication-method=normal"]
    installed = subprocess.run([*installing, "--skip-test-db"], check=False, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    command = [MARIADB, *small, data, *owner, f"--port={port}", f"--socket={directory / 'socket'}"]
    quick = ["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve"]
    try:
        with running([*command, *quick, *protected], log):

            def administrate() -> None:
                root = pymysql.connect(unix_socket=str(directory / "socket"), user="root")
                with root, root.cursor() as cursor:
                    cursor.execute("CREATE OR REPLACE USER admin@'%%' IDENTIFIED BY 'master password'", ())
                    cursor.execute("GRANT ALL ON *.* TO admin@'%%' WITH GRANT OPTION", ())
                    cursor.execute("CREATE DATABASE IF NOT EXISTS shop", ())

            wait_for(administrate, pymysql.Error, log=log)
            yield TlsServer(Server(port, "admin", "master password"), port, files.trust.read_text())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def redis_server(directory: Path, files: CertificateFiles) -> Iterator[TlsServer]:
    """Redis with an administrator of its access control lists, which are kept in a file."""
    executable = find_redis()
    assert executable is not None
    port, tls_port, acl = free_port(), free_port(), directory / "users.acl"
    acl.write_text("user default on nopass ~* +@all\nuser admin on >master-password ~* +@all\n")
    command = [str(executable), "--port", str(port), "--bind", HOST, "--save", "", "--aclfile", str(acl)]
    protected = ["--tls-port", str(tls_port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(files.trust)]
    protected += ["--tls-cert-file", str(files.certificate), "--tls-key-file", str(files.key)]
    with running([*command, "--dir", str(directory), *protected], directory / "redis.log"):
        assert wait_for_redis(port, _START_SECONDS)
        yield TlsServer(Server(port, "admin", "master-password"), tls_port, files.trust.read_text())


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
