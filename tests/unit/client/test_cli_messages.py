"""What is wrong with a file or an option is told in words of ours, field by field, and never as a library says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from google.protobuf.json_format import ParseDict, ParseError

from strongroom import profile_file, profiles
from strongroom.cli.complaints import Status
from strongroom.cli.messages import message_of
from strongroom.cli.password_rules import password_rule_of, words_of
from strongroom.errors import StrongroomError
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
from strongroom.secrets.v1.target_pb2 import RotationTarget
from tests.support.cli import run

# How Python, protobuf and TOML's parser write what they found.
FOREIGN = (
    "invalid literal",
    "Message type",
    "Available Fields",
    "Errno",
    "codec",
    "Failed to parse",
    "Expecting",
    "[]'",
)
ADDRESS = {"host": "h", "port": 5432}
WRONG: list[tuple[Any, str]] = [
    ({"redis": {"address": {"host": "h", "port": "abc"}}}, "redis.address.port is to be a whole number"),
    ({"redis": {"address": {"host": "h", "port": 1.5}}}, "redis.address.port is to be a whole number"),
    ({"redis": {"address": {"host": "h", "port": True}}}, "redis.address.port is to be a whole number"),
    ({"redis": {"address": {"host": "h", "port": 1 << 40}}}, "redis.address.port is to be a whole number"),
    ({"redis": {"address": {"host": 1}}}, "redis.address.host is to be a text"),
    ({"redis": {"address": "h:1"}}, "redis.address is to be an object with host, port"),
    ({"redis": {"addres": ADDRESS}}, "there is no field redis.addres: there are address"),
    ({"oracle": {}}, "there is no field oracle: there are database, redis"),
    ({"redis": {"saveAclFile": "yes"}}, "redis.saveAclFile is to be true or false"),
    ({"redis": {"address": {**ADDRESS, "tls": "SOMETIMES"}}}, "redis.address.tls is none of"),
    ({"redis": {"address": {**ADDRESS, "timeout": 5}}}, "redis.address.timeout is to be a span such as 3600s"),
    ({"ssh": {"hostKeys": "ssh-ed25519 AAAA"}}, "ssh.hostKeys is to be a list"),
    ({"ssh": {"hostKeys": [1]}}, "ssh.hostKeys[0] is to be a text"),
    ({"grpc": {"parameters": ["a"]}}, "grpc.parameters is to be an object of texts"),
    ({"redis": {}, "ssh": {}}, "redis, ssh do not go together"),
    ([], "the whole is to be an object"),
]
RIGHT: list[Any] = [
    {},
    {"redis": {"address": {**ADDRESS, "timeout": "5s", "tls": "TARGET_TLS_VERIFY_CA"}, "save_acl_file": True}},
    {"ssh": {"host": "h", "port": "22", "hostKeys": ["ssh-ed25519 AAAA"], "authorizedKeysPath": None}},
    {"grpc": {"address": "h:1", "parameters": {"a": "b"}}},
    {"database": {"address": {**ADDRESS, "tls": 1}, "username": "u", "masterSecret": "accounts/a/secrets/s"}},
]


def own(text: str) -> bool:
    return not any(foreign in text for foreign in FOREIGN)


@pytest.mark.parametrize(("document", "told"), WRONG)
def test_what_is_wrong_with_a_message_is_told_by_its_field(document: Any, told: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        message_of(json.dumps(document), RotationTarget(), "--target")
    assert refused.value.param_hint == "--target"
    assert told in str(refused.value)
    assert own(str(refused.value))


@pytest.mark.parametrize("document", RIGHT)
def test_what_protobuf_reads_is_read(document: Any) -> None:
    assert message_of(json.dumps(document), RotationTarget(), "--target") == ParseDict(document, RotationTarget())


@pytest.mark.parametrize("document", [document for document, _ in WRONG if isinstance(document, dict)])
def test_nothing_that_protobuf_reads_is_refused(document: Any) -> None:
    with pytest.raises((ParseError, TypeError, ValueError)):
        ParseDict(document, RotationTarget())


@pytest.mark.parametrize(
    "text", ["", "{", "{'length': 1}", '{"length": 1,}', '{"length": NaN}', "[" * 100_000, '{"length":1,"length":2}']
)
def test_what_is_no_json_is_told_with_its_place(text: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        message_of(text, PasswordRule(), "--password-rule")
    assert own(str(refused.value)), str(refused.value)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("", PasswordRule()),
        ("default", PasswordRule()),
        ("length=24", PasswordRule(length=24)),
        ("length=24, no-punctuation", PasswordRule(length=24, exclude_punctuation=True)),
        (
            "spaces,any-kinds,exclude=a,b=",
            PasswordRule(include_space=True, allow_missing_kinds=True, exclude_characters="a,b="),
        ),
        ("no-digits,no-lowercase", PasswordRule(exclude_digits=True, exclude_lowercase=True)),
        ("no-uppercase,all-punctuation", PasswordRule(exclude_uppercase=True, all_punctuation=True)),
        (' {"length": 24}', PasswordRule(length=24)),
    ],
)
def test_a_password_rule_is_said_in_words(words: str, rule: PasswordRule) -> None:
    assert password_rule_of(words) == rule


def test_a_rule_in_words_is_told_in_the_same_words() -> None:
    for words in ("default", "length=24,no-punctuation", "length=8,spaces,any-kinds,exclude=a,b=", "all-punctuation"):
        assert words_of(password_rule_of(words)) == words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("no-punctuation,all-punctuation", "all-punctuation does not go with no-punctuation"),
        ("all-punctuation,length=9,no-punctuation", "no-punctuation does not go with all-punctuation"),
        ("length=24,length=32", "length=32 comes twice"),
        ("spaces,spaces", "spaces comes twice"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(words: str, told: str) -> None:
    with pytest.raises(typer.BadParameter, match=told):
        password_rule_of(words)


@pytest.mark.parametrize(
    "words", ["lenth=24", "length=", "length=7", "length=4097", "length=" + "9" * 5000, "24", "Length=24"]
)
def test_another_word_is_refused_with_those_that_there_are(words: str) -> None:
    with pytest.raises(
        typer.BadParameter, match="8 to 4096" if words.startswith("length") else "length=24, no-lower"
    ) as refused:
        password_rule_of(words)
    assert refused.value.param_hint == "--password-rule"


def test_an_option_in_json_is_told_in_words_of_ours(tmp_path: Path) -> None:
    ended = run("secret", "create", "x", "--text", "v", "--password-rule", '{"lenth":1}')
    assert (ended.exit_code, own(ended.stderr)) == (Status.USAGE, True)
    assert "there is no field lenth: there are length, excludeLowercase" in ended.stderr
    (tmp_path / "target.json").write_text('{"redis": {"address": {"port": "abc"}}}')
    ended = run("secret", "update", "x", "--target", str(tmp_path / "target.json"))
    assert (ended.exit_code, own(ended.stderr)) == (Status.USAGE, True)


@pytest.mark.parametrize(
    "line",
    [
        "key create x --rotate-every a\\b",
        "key create x --spec a\\b",
        "key list --limit a\\b",
        "encrypt x --text y --context a\\b",
        "trace a\\b",
        "audit events --action a\\b",
        "audit events --since a\\b",
        "help a\\b",
        "run --env a\\b -- true",
        "audit witness --key x --state y --name z --listen a\\b",
        "principal create users/x --oidc a\\b",
    ],
)
def test_what_was_typed_is_shown_as_it_was_typed(line: str) -> None:
    ended = run(*line.split(" "))
    assert ended.exit_code in (Status.USAGE, Status.REFUSED)
    assert "a\\b" in ended.stderr
    assert "a\\\\b" not in ended.stderr


@pytest.mark.parametrize("port", ["65536", "99999", "abc", "-1", "", "¹"])
def test_a_port_that_there_is_not_is_a_usage_error(port: str, tmp_path: Path) -> None:
    line = ["audit", "witness", "--key", "x", "--state", str(tmp_path), "--name", "w", "--listen", f"127.0.0.1:{port}"]
    assert run(*line).exit_code == Status.USAGE


@pytest.mark.parametrize("content", [b"\xff\xfe", b"current = ", b"a\x00b"])
def test_a_profile_file_that_cannot_be_read_is_told_in_words_of_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profiles.toml"
    path.write_bytes(content)
    for read in (lambda: profiles.load(path), lambda: profile_file.table_of(path, "x")):
        with pytest.raises(StrongroomError) as refused:
            read()
        assert own(refused.value.message), refused.value.message


def test_a_profile_file_that_is_a_folder_is_told_in_words_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StrongroomError) as refused:
        profiles.load(tmp_path)
    assert refused.value.message == f"{tmp_path}: Is a directory"
