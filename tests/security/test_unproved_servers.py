"""No step of any rotator shows a password to a server that has not proved who it is: neither one that a secret has, nor
one that it gets, nor the master's."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.dev.certificates import CertificateFiles
from deploy.dev.topology import HOST
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.tls import Identity
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.model import Secret
from services.secrets.kinds.known import declarations
from services.secrets.rotation.rotators import choice
from services.secrets.rotation.rotators.mysql_passwords import _verifier
from services.secrets.rotation.rotators.proof import Proof, proof_of
from services.secrets.rotation.rotators.remote import RemoteRotator
from services.secrets.rotation.rotators.rotator import Credential, RotationContext, Rotator
from services.secrets.rotation.targets.targets import TargetRules
from strongroom.secrets.v1 import secret_pb2 as s
from strongroom.secrets.v1 import target_pb2 as t
from tests.support import hostile_servers as hostile
from tests.support.listening_mysql import ListeningMysql
from tests.support.rotation.servers import server_certificate

PASSWORDS = {"current": "hunter2-current", "pending": "hunter3-pending", "master": "hunter4-master"}
STEPS: dict[str, Callable[[Rotator, RotationContext, dict[str, Credential]], object]] = {
    "check": lambda rotator, context, known: rotator.check(context, known["current"]),
    "set": lambda rotator, context, known: rotator.set(context, known["pending"], known["current"], None),
    "test": lambda rotator, context, known: rotator.test(context, known["pending"]),
    "finish": lambda rotator, context, known: rotator.finish(context, known["pending"], known["current"]),
}
# This machine by an address that is none of its own.
ELSEWHERE = "0.0.0.0"  # noqa: S104
# How a target is protected, and whether the false server has a certificate that it would trust.
MODES = {
    "no TLS": t.TargetAddress(host=ELSEWHERE, tls=t.TARGET_TLS_DISABLED),
    "any authority that everybody trusts": t.TargetAddress(host="localhost", tls=t.TARGET_TLS_VERIFY_CA),
    "an authority of the target's": t.TargetAddress(host="localhost", tls=t.TARGET_TLS_VERIFY_CA),
    "the name": t.TargetAddress(host="localhost", tls=t.TARGET_TLS_VERIFY_FULL),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """A certificate that is trusted, for another host than the targets name."""
    return server_certificate(tmp_path_factory.mktemp("false"))


@pytest.fixture
def address(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, files: CertificateFiles
) -> t.TargetAddress:
    mode, where = request.param, t.TargetAddress()
    where.CopyFrom(MODES[mode])
    where.timeout.FromSeconds(5)
    if mode.startswith("any"):
        monkeypatch.setenv("SSL_CERT_FILE", str(files.trust))
    else:
        where.ca_pem = files.trust.read_text()
    return where


def server_context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


def credentials() -> dict[str, Credential]:
    return {
        name: Credential(
            f"accounts/acme/secrets/s/versions/{number}",
            SensitiveBytes(
                json.dumps({"username": "boss" if name == "master" else "app", "password": password}).encode()
            ),
            s.VALUE_FORMAT_TEXT,
        )
        for number, (name, password) in enumerate(PASSWORDS.items(), 1)
    }


def context_of(kind: s.SecretType.ValueType, target: t.RotationTarget, master: Credential | None) -> RotationContext:
    name = ResourceName("acme", "secrets", "s")
    secret = Secret(name, kind, s.SECRET_STATE_ENABLED, "", "", {}, 10, 1, 1, 0, 0, {}, target=target)
    return RotationContext(secret, "", 0, 0, master)


@dataclass
class Own:
    """The service's certificate, whose authority has issued the false server's too."""

    files: CertificateFiles

    def current(self) -> Identity:
        files = self.files
        return Identity(files.certificate.read_bytes(), files.key.read_bytes(), files.trust.read_bytes())


def taken(
    step: str,
    kind: s.SecretType.ValueType,
    target: t.RotationTarget,
    *,
    by_master: bool,
    own: CertificateFiles | None = None,
) -> StrongroomError | None:
    """What a step at a target ends in."""
    known = credentials()
    context = context_of(kind, target, known["master"] if by_master else None)
    rotator = RemoteRotator(Own(own)) if own is not None else choice.target_rotator(kind)
    try:
        STEPS[step](rotator, context, known)
    except StrongroomError as error:
        return error
    return None


@pytest.mark.parametrize("address", MODES, indirect=True)
@pytest.mark.parametrize("by", ["itself", "a master", "a master of two"])
@pytest.mark.parametrize(
    ("version", "plugin"),
    [
        ("8.0.36", "mysql_native_password"),
        ("8.0.36", "caching_sha2_password"),
        ("8.0.36", "sha256_password"),
        ("8.0.36", ""),
        ("10.11.6-MariaDB", "mysql_native_password"),
        ("10.11.6-MariaDB", "ed25519"),
        ("10.11.6-MariaDB", ""),
    ],
)
def test_mysql_is_shown_no_password(
    address: t.TargetAddress, files: CertificateFiles, by: str, version: str, plugin: str
) -> None:
    for step in STEPS:
        uses_tls = address.tls != t.TARGET_TLS_DISABLED
        listening = ListeningMysql(version, plugin, server_context(files) if uses_tls else None)
        with hostile.serving(listening) as port:
            address.port = port
            wanted = t.DatabaseTarget(address=address, username="app")
            if by == "a master of two":
                wanted.strategy = t.DATABASE_STRATEGY_DUAL_USER
            taken(step, s.SECRET_TYPE_MYSQL, t.RotationTarget(database=wanted), by_master=by != "itself")
        for password in PASSWORDS.values():
            assert password.encode() not in listening.heard, (step, listening.statements)
        if address.tls == t.TARGET_TLS_VERIFY_FULL:
            assert not listening.statements


@pytest.mark.parametrize("address", ["no TLS"], indirect=True)
def test_mariadb_is_shown_verifiers(address: t.TargetAddress) -> None:
    for plugin, by_master in (("mysql_native_password", False), ("mysql_native_password", True), ("ed25519", True)):
        listening = ListeningMysql("10.11.6-MariaDB", plugin)
        with hostile.serving(listening) as port:
            address.port = port
            target = t.RotationTarget(database=t.DatabaseTarget(address=address, username="app"))
            assert taken("set", s.SECRET_TYPE_MYSQL, target, by_master=by_master) is None
        assert _verifier(plugin, PASSWORDS["pending"]) in listening.statements[-1]


@pytest.mark.parametrize("address", [mode for mode in MODES if not mode.startswith("an ")], indirect=True)
@pytest.mark.parametrize("kind", [s.SECRET_TYPE_REDIS_ACL, s.SECRET_TYPE_POSTGRESQL, s.SECRET_TYPE_GRPC])
@pytest.mark.parametrize("by_master", [False, True])
def test_no_other_server_is_shown_one(
    address: t.TargetAddress, files: CertificateFiles, kind: s.SecretType.ValueType, *, by_master: bool
) -> None:
    for step in STEPS:
        heard: list[bytes] = []

        def listen(connection: socket.socket, heard: list[bytes] = heard) -> None:
            with suppress(OSError):
                if kind == s.SECRET_TYPE_POSTGRESQL:
                    heard.append(connection.recv(4096))
                    connection.sendall(b"S" if address.tls != t.TARGET_TLS_DISABLED else b"R\0\0\0\x08\0\0\0\x03")
                if address.tls != t.TARGET_TLS_DISABLED:
                    connection = server_context(files).wrap_socket(connection, server_side=True)
                while part := connection.recv(4096):
                    heard.append(part)
                    connection.sendall(b"+OK\r\n" * 4)

        with hostile.serving(listen) as port:
            address.port = port
            own = files if kind == s.SECRET_TYPE_GRPC else None
            error = taken(step, kind, target_of(kind, address), by_master=by_master, own=own)
        assert error is not None or step == "finish"
        for password in PASSWORDS.values():
            assert password.encode() not in b"".join(heard), step


def test_every_type_that_logs_in_elsewhere_is_in_these_tables() -> None:
    here = {s.SECRET_TYPE_REDIS_ACL, s.SECRET_TYPE_POSTGRESQL, s.SECRET_TYPE_GRPC, s.SECRET_TYPE_MYSQL}
    # A key never leaves, and hosts are known by their own keys.
    assert {kind for kind, found in declarations().items() if found.is_outside} == here | {s.SECRET_TYPE_SSH_KEY_PAIR}


def target_of(kind: s.SecretType.ValueType, address: t.TargetAddress) -> t.RotationTarget:
    if kind == s.SECRET_TYPE_REDIS_ACL:
        return t.RotationTarget(redis=t.RedisTarget(address=address, username="app"))
    if kind == s.SECRET_TYPE_GRPC:
        return t.RotationTarget(grpc=t.GrpcTarget(address=f"localhost:{address.port}", timeout=address.timeout))
    return t.RotationTarget(database=t.DatabaseTarget(address=address, username="app"))


def test_redis_trusts_whom_its_target_names_and_nobody_besides(
    monkeypatch: pytest.MonkeyPatch, files: CertificateFiles, tmp_path: Path
) -> None:
    """An authority of its own is not one more beside those that everybody trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(files.trust))
    own = server_certificate(tmp_path).trust.read_text()
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        with suppress(OSError):
            heard.append(server_context(files).wrap_socket(connection, server_side=True).recv(4096))

    with hostile.serving(listen) as port:
        for tls in (t.TARGET_TLS_VERIFY_CA, t.TARGET_TLS_VERIFY_FULL):
            where = t.TargetAddress(host=HOST, port=port, tls=tls, ca_pem=own)
            error = taken("test", s.SECRET_TYPE_REDIS_ACL, target_of(s.SECRET_TYPE_REDIS_ACL, where), by_master=False)
            assert error is not None
            assert error.reason == Reason.TARGET_UNREACHABLE
    assert not any(heard)


@pytest.mark.parametrize(
    ("tls", "ca_pem", "at", "proof"),
    [
        (t.TARGET_TLS_UNSPECIFIED, "", "203.0.113.1", Proof.NAME),
        (t.TARGET_TLS_VERIFY_FULL, "ca", "203.0.113.1", Proof.NAME),
        (t.TARGET_TLS_VERIFY_CA, "ca", "203.0.113.1", Proof.AUTHORITY),
        (t.TARGET_TLS_VERIFY_CA, "", "203.0.113.1", Proof.NOTHING),
        (t.TARGET_TLS_VERIFY_CA, "", "127.0.0.1", Proof.NOTHING),
        (t.TARGET_TLS_DISABLED, "ca", "203.0.113.1", Proof.NOTHING),
        (t.TARGET_TLS_DISABLED, "", "10.0.0.1", Proof.NOTHING),
        (t.TARGET_TLS_DISABLED, "", "redis.internal", Proof.NOTHING),
        (t.TARGET_TLS_DISABLED, "", "127.0.0.2", Proof.MACHINE),
        (t.TARGET_TLS_DISABLED, "", "::1", Proof.MACHINE),
    ],
)
def test_what_a_connection_proves(tls: t.TargetTls.ValueType, ca_pem: str, at: str, proof: Proof) -> None:
    assert proof_of(t.TargetAddress(tls=tls, ca_pem=ca_pem), at) is proof


def test_a_redis_that_would_have_to_be_believed_is_refused_when_the_secret_is_made() -> None:
    where = t.TargetAddress(host="redis.example", tls=t.TARGET_TLS_VERIFY_CA)
    with pytest.raises(StrongroomError) as refused:
        TargetRules().check(s.SECRET_TYPE_REDIS_ACL, target_of(s.SECRET_TYPE_REDIS_ACL, where), "acme")
    assert refused.value.field == "secret.target.redis.address.tls"


def test_verifiers_are_those_that_servers_make() -> None:
    # By MariaDB's own PASSWORD() and ed25519_password().
    assert _verifier("mysql_native_password", "secret") == "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"
    assert _verifier("ed25519", "secret") == "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY"
