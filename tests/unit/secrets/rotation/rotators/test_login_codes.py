"""What a database says of a login is judged by codes, in whatever language it writes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pymysql.err import OperationalError

from services.runtime.errors import StrongroomError
from services.secrets.rotation.rotators.database import alternate_username
from services.secrets.rotation.rotators.mysql import _login_failure
from services.secrets.rotation.rotators.postgresql import PostgresqlDriver
from services.secrets.rotation.targets.targets import TargetRules
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_MYSQL, SECRET_TYPE_POSTGRESQL, SecretType
from strongroom.secrets.v1.target_pb2 import (
    DATABASE_STRATEGY_DUAL_USER,
    TARGET_TLS_DISABLED,
    DatabaseTarget,
    RotationTarget,
    TargetAddress,
)

HOST = "127.0.0.1"


@contextmanager
def postgresql(fields: dict[bytes, bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that refuses a login with these fields of ErrorResponse; its port, and what it was sent."""
    heard: list[bytes] = []
    with socket.create_server((HOST, 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(4096))
                content = b"".join(name + value + b"\0" for name, value in fields.items()) + b"\0"
                connection.sendall(b"E" + struct.pack("!i", len(content) + 4) + content)

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(10)


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        ("28P01", "пользователь не прошёл проверку подлинности", "TARGET_LOGIN_REFUSED"),
        ("28000", "no pg_hba.conf entry", "TARGET_LOGIN_REFUSED"),
        ("3D000", "データベースは存在しません", "TARGET_LOGIN_REFUSED"),
        ("42501", "permission denied", "TARGET_LOGIN_REFUSED"),
        ("57P03", "das Datenbanksystem startet", "TARGET_UNREACHABLE"),
        ("53300", "客户端过多", "TARGET_UNREACHABLE"),
        ("08P01", "no more connections allowed (max_client_conn)", "TARGET_UNREACHABLE"),
        ("57P01", "password authentication failed", "TARGET_UNREACHABLE"),
        ("XX000", "password authentication failed", "TARGET_UNREACHABLE"),
        ("", "password authentication failed", "TARGET_UNREACHABLE"),
    ],
)
def test_postgresql_is_judged_by_sqlstate(code: str, text: str, reason: str) -> None:
    fields = {b"S": "ВАЖНО".encode(), b"V": b"FATAL", b"M": text.encode()}
    if code:
        fields[b"C"] = code.encode()
    with postgresql(fields) as (port, heard):
        target = DatabaseTarget(address=TargetAddress(host=HOST, port=port, tls=TARGET_TLS_DISABLED))
        with pytest.raises(StrongroomError) as caught, PostgresqlDriver().login(target, "user", "password", HOST):
            pass
    assert caught.value.reason == reason
    assert text not in caught.value.message
    # Poolers refuse it.
    assert b"options" not in heard[0]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        *((number, "TARGET_LOGIN_REFUSED") for number in (1044, 1045, 1049, 1130, 1862, 3118, 3955)),
        *((number, "TARGET_UNREACHABLE") for number in (1040, 1129, 1203, 1226, 2003, 2013, 3032)),
    ],
)
def test_mysql_is_judged_by_number(number: int, reason: str) -> None:
    failed = _login_failure(OperationalError(number, "Доступ закрыт"), "login")
    assert failed.reason == reason
    assert "Доступ" not in failed.message
    assert ("expired" in failed.message) == (number == 1862)


@pytest.mark.parametrize("limit", [63, 32])
def test_a_second_user_is_never_the_first(limit: int) -> None:
    made = {}
    for name in [letter * length for letter in ("u", "ü", "漢") for length in range(1, limit + 1)]:
        if len(name.encode()) > limit:
            continue
        target = DatabaseTarget(username=name, strategy=DATABASE_STRATEGY_DUAL_USER)
        second = alternate_username(target, limit)
        assert second != name
        assert len(second.encode()) <= limit
        made[second] = name
    assert len(set(made)) == len(made.values())


@pytest.mark.parametrize(
    ("kind", "names", "field"),
    [
        (SECRET_TYPE_POSTGRESQL, ("u" * 64, ""), "username"),
        (SECRET_TYPE_POSTGRESQL, ("ü" * 32, ""), "username"),
        (SECRET_TYPE_POSTGRESQL, ("u" * 63, "u" * 64), "alternate_username"),
        (SECRET_TYPE_MYSQL, ("u" * 33, ""), "username"),
        (SECRET_TYPE_MYSQL, ("u" * 32, "u" * 33), "alternate_username"),
        (SECRET_TYPE_MYSQL, ("app", "app"), "alternate_username"),
        (SECRET_TYPE_MYSQL, ("app", "app  "), "alternate_username"),
    ],
)
def test_a_name_that_a_server_would_cut_or_take_for_the_first_users_is_refused(
    kind: SecretType.ValueType, names: tuple[str, str], field: str
) -> None:
    username, alternate = names
    target = DatabaseTarget(
        address=TargetAddress(host="127.0.0.1", port=1, tls=TARGET_TLS_DISABLED),
        username=username,
        alternate_username=alternate,
        strategy=DATABASE_STRATEGY_DUAL_USER,
        master_secret="accounts/acme/secrets/master",
    )
    with pytest.raises(StrongroomError) as refused:
        TargetRules(["127.0.0.1"]).check(kind, RotationTarget(database=target), "acme")
    assert refused.value.field == f"secret.target.database.{field}"
