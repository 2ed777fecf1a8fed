"""No secret byte of a marked value appears where others read: logs, spans, errors, databases, Redis."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from strongroom import Client, ClientKeySession, StrongroomError
from strongroom.secrets.v1.target_pb2 import (
    TARGET_TLS_DISABLED,
    ClientKeyTarget,
    DatabaseTarget,
    RotationTarget,
    TargetAddress,
)
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, reason_of, until

MARK = b"MARKED-SECRET-6f1d93"


def forms(value: bytes) -> list[bytes]:
    """The ways in which a value gets printed: as it is, hex, and base64 at each alignment."""
    encoded = [base64.b64encode(bytes(shift) + value)[4:-4] for shift in range(3)]
    return [value, value.hex().encode(), value.hex().upper().encode(), *encoded]


def provoke(client: Client, secret: bytes) -> str:
    """Uses and misuses a secret value in every operation there is; the text of every error."""
    key = client.keys.create("marked").name
    sealed = client.encrypt(key, secret, {"tenant": "blue"})
    client.decrypt(sealed.ciphertext, {"tenant": "blue"})
    client.batch_encrypt(key, [secret, secret])
    client.secrets.create("marked", secret)
    client.secrets.put_value("marked", secret + b"-2")
    assert client.secrets.get_value("marked").value == secret + b"-2"
    errors = [fail_a_rotation(client, secret)]
    client.keys.disable(key)
    until(lambda: reason_of(lambda: client.encrypt(key, secret)) == "KEY_DISABLED")
    for misuse in (
        lambda: client.encrypt("absent", secret),
        lambda: client.encrypt(key, secret),
        lambda: client.encrypt(key, secret * 10_000),
        lambda: client.decrypt(secret * 4),
        lambda: client.secrets.create("marked", secret),
        lambda: client.secrets.put_value("absent", secret),
        lambda: client.secrets.put_value("marked", secret * 10_000),
    ):
        try:
            misuse()
        except StrongroomError as error:
            errors.append(f"{error} {error!r} {error.__dict__}")
    assert len(errors) == 8
    return "\n".join(errors)


def fail_a_rotation(client: Client, secret: bytes) -> str:
    """A rotation whose target is not there; what its history says."""
    address = TargetAddress(host="127.0.0.1", port=1, tls=TARGET_TLS_DISABLED)
    target = RotationTarget(database=DatabaseTarget(address=address, username="app"))
    value = json.dumps({"username": "app", "password": secret.decode()}).encode()
    client.secrets.create("login", value, type="POSTGRESQL", target=target, check_target=False)
    client.secrets.rotate("login")
    until(lambda: next(client.secrets.rotations.list("login")).state == "WAITING", 30)
    rotation = next(client.secrets.rotations.list("login"))
    assert {attempt.error_reason for attempt in rotation.attempts} == {"", "TARGET_UNREACHABLE"}
    return repr(rotation)


def rotate_a_client_key(client: Client, secret: bytes) -> tuple[list[str], str]:
    """The secrets of client keys that were made and rotated; and what is said of one that is wrong."""
    principal = client.access.principals.create("workloads/batch").name
    client.secrets.client_keys.create("batch.key", principal)
    made = [json.loads(client.secrets.get_value("batch.key").value)]
    client.secrets.rotate("batch.key")
    until(lambda: client.secrets.get("batch.key").stages["Current"] == 2, 30)
    made.append(json.loads(client.secrets.get_value("batch.key").value))
    wrong = json.dumps({**made[1], "secret": secret.decode()}).encode()
    target = RotationTarget(client_key=ClientKeyTarget(principal=principal))
    with pytest.raises(StrongroomError, match="TARGET_LOGIN_REFUSED") as caught:
        client.secrets.create("wrong.key", wrong, type="CLIENT_KEY", target=target)
    return [value["secret"] for value in made], f"{caught.value!r} {caught.value.__dict__}"


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]


def test_a_marked_value_is_nowhere_in_the_clear(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(log_level="DEBUG")
    with client_of(mesh, trace_directory=mesh.directory.traces) as client:
        errors = provoke(client, MARK)
        result = repr(client.decrypt(client.encrypt(client.keys.create("repr").name, MARK).ciphertext))
        data_key = client.generate_data_key("repr")
        token = client.access.sessions.create().token
        client_key = client.access.client_keys.create("users/admin")
        by_client_key = client.access.sessions.create(
            ClientKeySession(client_key.client_key.name, client_key.secret)
        ).token
        account_secret = client.access.accounts.create("other").client_key_secret
        rotated, refusal = rotate_a_client_key(client, MARK)
        errors += refusal
    mesh.stop()

    searched = files_below(mesh.directory.root)
    names = {path.name for path in searched}
    assert {"keystore.db", "secrets.db", "audit.db", "crypto.err"} <= names
    assert any(path.parent == mesh.directory.traces for path in searched)
    assert len({*rotated, client_key.secret}) == 3
    texts = (token, by_client_key, client_key.secret, account_secret, *rotated)
    for secret in (MARK, data_key.plaintext, *(text.encode() for text in texts)):
        for form in forms(secret):
            assert form not in errors.encode()
            assert form not in result.encode()
            found = [path for path in searched if form in path.read_bytes()]
            assert found == []


def test_a_search_finds_what_is_there(tmp_path: Path) -> None:
    # So that the test above cannot pass by looking in the wrong way.
    (tmp_path / "log").write_bytes(b"x" + base64.b64encode(b"ab" + MARK + b"c"))
    content = (tmp_path / "log").read_bytes()
    assert any(form in content for form in forms(MARK))
