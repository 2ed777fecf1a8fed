"""A pooler has one code for a wrong password and for a server that is away. A step, which may write into no file, tells
them apart by how far the login had come."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.runtime.errors import StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.model import Secret
from services.secrets.kinds.known import declarations
from services.secrets.rotation.rotators.rotator import Credential, RotationContext
from services.secrets.rotation.targets.workers import TargetWorkers, WorkerRotator
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SECRET_TYPE_POSTGRESQL, VALUE_FORMAT_TEXT
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, DatabaseTarget, RotationTarget, TargetAddress
from tests.support.rotation.fixtures import target_workers

__all__ = ["target_workers"]

_HOST = "127.0.0.1"
_PASSWORD = "right"
_SALT, _ROUNDS = b"0123456789abcdef", 4096
_SASL, _SASL_CONTINUE, _SASL_FINAL = 10, 11, 12


def told(connection: socket.socket, kind: bytes, content: bytes) -> None:
    connection.sendall(kind + struct.pack("!i", len(content) + 4) + content)


def asked(connection: socket.socket, step: int, content: bytes) -> None:
    told(connection, b"R", struct.pack("!i", step) + content)


def refused(connection: socket.socket) -> None:
    told(connection, b"E", b"SFATAL\0VFATAL\0C08P01\0Mno\0\0")


def pool(connection: socket.socket) -> None:
    """Asks for the password by SCRAM, and refuses a wrong one as well as everything that comes after a right one."""
    connection.recv(4096)
    asked(connection, _SASL, b"SCRAM-SHA-256\0\0")
    first = connection.recv(4096).partition(b"n,,")[2]
    nonce = first.partition(b"r=")[2] + b"more"
    offered = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(_SALT), _ROUNDS)
    asked(connection, _SASL_CONTINUE, offered)
    last, _, proof = connection.recv(4096)[5:].partition(b",p=")
    salted = hashlib.pbkdf2_hmac("sha256", _PASSWORD.encode(), _SALT, _ROUNDS)
    signed = b",".join((first, offered, last))
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    if base64.b64decode(proof) == bytes(a ^ b for a, b in zip(key, signature, strict=True)):
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        asked(connection, _SASL_FINAL, b"v=" + base64.b64encode(verifier))
        asked(connection, 0, b"")
    refused(connection)


@contextmanager
def pooler() -> Iterator[int]:
    """The port of one that takes one login."""
    with socket.create_server((_HOST, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                pool(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(("password", "reason"), [("right", "TARGET_UNREACHABLE"), ("wrong", "TARGET_LOGIN_REFUSED")])
def test_a_step_tells_a_refused_password_from_a_pooler_whose_server_is_away(
    target_workers: TargetWorkers, password: str, reason: str
) -> None:
    with pooler() as port:
        where = TargetAddress(host=_HOST, port=port, tls=TARGET_TLS_DISABLED)
        target = RotationTarget(database=DatabaseTarget(address=where, username="app"))
        name = ResourceName("acme", "secrets", "app")
        secret = Secret(
            name, SECRET_TYPE_POSTGRESQL, SECRET_STATE_ENABLED, "", "", {}, 10, 1, 1, 0, 0, {}, target=target
        )
        value = SensitiveBytes(json.dumps({"username": "app", "password": password}).encode())
        rotator = WorkerRotator(declarations()[SECRET_TYPE_POSTGRESQL], target_workers, None)
        with pytest.raises(StrongroomError) as failed:
            rotator.test(RotationContext(secret, "", 1, 1, None), Credential("1", value, VALUE_FORMAT_TEXT))
    assert failed.value.reason == reason
