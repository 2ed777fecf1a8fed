"""Values of types with a target: every text of every one is checked before anything uses it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.runtime.errors import StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.secrets.rotation.rotators.postgresql import PostgresqlDriver
from services.secrets.values.shapes import check_login, check_shape
from strongroom.secrets.v1 import secret_pb2 as s
from strongroom.secrets.v1.target_pb2 import DatabaseTarget, TargetAddress

LOGIN = {"username": "app", "password": "p4ss wörd\\"}
KEYS = {"username": "app", "private_key": "-----BEGIN\nabc\r\n-----END\n", "public_key": "ssh-ed25519 AAAA me"}
CLIENT_KEY = {"client_key": "accounts/a/clientKeys/ck", "secret": "s3cret"}
WHOLE: dict[s.SecretType.ValueType, dict[str, Any]] = {
    s.SECRET_TYPE_POSTGRESQL: LOGIN,
    s.SECRET_TYPE_MYSQL: LOGIN,
    s.SECRET_TYPE_REDIS_ACL: LOGIN,
    s.SECRET_TYPE_SSH_KEY_PAIR: KEYS,
    s.SECRET_TYPE_CLIENT_KEY: CLIENT_KEY,
}


def value(content: Any) -> SensitiveBytes:
    return SensitiveBytes(json.dumps(content).encode())


@pytest.mark.parametrize("kind", WHOLE)
def test_sound_values_are_taken(kind: s.SecretType.ValueType) -> None:
    more = {"host": "db", "port": 5432, "engine": "x", "database": "d", "note": "any\nthing"}
    check_shape(kind, value({**WHOLE[kind], **more}))


@pytest.mark.parametrize(
    "odd",
    ["a\0b", "a\nb", "a\rb", "\x1b[2J", "a\x7f", "\u0085", "\u2028", "\ud800", "a\0 sslmode=disable", "x" * 20_000],
)
def test_no_text_of_any_has_what_ends_a_string_elsewhere(odd: str) -> None:
    for kind, whole in WHOLE.items():
        for member in (*whole, "host", "engine", "database"):
            if member == "private_key" and odd in ("a\nb", "a\rb"):
                continue
            with pytest.raises(StrongroomError) as caught:
                check_shape(kind, value({**whole, member: odd}))
            assert (caught.value.reason, caught.value.field) == ("FIELD_INVALID", "value"), (kind, member)
            assert member in caught.value.message
            assert odd not in caught.value.message


@pytest.mark.parametrize("odd", [1, None, ["a"], {"a": "b"}, True, ""])
def test_members_are_texts(odd: Any) -> None:
    for kind, whole in WHOLE.items():
        for member in whole:
            with pytest.raises(StrongroomError):
                check_shape(kind, value({**whole, member: odd}))


@pytest.mark.parametrize("port", [0, 65_536, -1, "x", 1.5, True, "0005432222", []])
def test_a_port_is_one(port: Any) -> None:
    with pytest.raises(StrongroomError):
        check_shape(s.SECRET_TYPE_POSTGRESQL, value({**LOGIN, "port": port}))


def test_a_masters_login_is_checked_too() -> None:
    check_login(value(LOGIN), "master")
    with pytest.raises(StrongroomError):
        check_login(value({**LOGIN, "password": "a\0b"}), "master")


@pytest.mark.parametrize(("username", "password"), [("a\0b", "p"), ("a", "p\0b"), ("a\n", "p")])
def test_a_driver_sends_nothing_where_a_check_was_left_out(username: str, password: str) -> None:
    target = DatabaseTarget(address=TargetAddress(host="127.0.0.1", port=1), username="a")
    with (
        pytest.raises(StrongroomError) as caught,
        PostgresqlDriver().login(target, username, password, "127.0.0.1"),
    ):
        pass
    assert caught.value.reason == "TARGET_LOGIN_REFUSED"
