"""What commands take: values without the shell's newline, spans, times, pairs, and what other commands printed."""

from __future__ import annotations

import base64
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from strongroom.cli import inputs, spans, tables
from strongroom.cli.complaints import Status
from strongroom.cli.plain import plain
from strongroom.cli.secret_inputs import value_of
from strongroom.cli.secret_targets import Place, changed_target, target_of
from strongroom.cli.yaml import yaml_text
from strongroom.errors import StrongroomError
from strongroom.secrets.v1.target_pb2 import RotationTarget, SshTarget
from tests.support.cli import run

BYTES = bytes(range(200, 256)) + b"\n"


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("field", ["signature", "ciphertext", "mac", "plaintext"])
def test_what_a_command_printed_is_read_in_every_form(field: str) -> None:
    encoded = base64.b64encode(BYTES).decode()
    document = {"key_version": "accounts/main/keys/k/versions/1", field: encoded, "event_id": "0198"}
    for written in (
        BYTES,
        f"{encoded}\n".encode(),
        base64.encodebytes(BYTES),
        f"{encoded}\r\n".encode(),
        json.dumps(document, indent=2).encode(),
        yaml_text(document).encode(),
    ):
        assert inputs.decoded(written, field) == BYTES


def test_bytes_that_are_no_base64_stay_as_they_are() -> None:
    for content in (b"", b"\x01AAAA", b"AAA", b"{", b'{"signature": 5}', b"\xff" * 64, b'["a"]'):
        assert inputs.decoded(content, "signature") == content


def test_a_signature_is_given_once(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(base64.b64encode(BYTES))
    assert inputs.given_bytes("", tmp_path / "s", "--signature", "signature", 1000) == BYTES
    assert inputs.given_bytes(base64.b64encode(BYTES).decode(), None, "--signature", "signature", 1000) == BYTES
    for encoded, path in (("", None), ("AAAA", tmp_path / "s"), ("no base64!", None), ("AAA", None)):
        with pytest.raises(typer.BadParameter):
            inputs.given_bytes(encoded, path, "--signature", "signature", 1000)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (b"hunter2\n", b"hunter2"),
        (b"hunter2\r\n", b"hunter2"),
        (b"hunter2", b"hunter2"),
        (b"hunter2\n\n", b"hunter2\n\n"),
        (b"-----BEGIN X-----\nAA==\n-----END X-----\n", b"-----BEGIN X-----\nAA==\n-----END X-----\n"),
        (b"\xff\xfe\n", b"\xff\xfe\n"),
        (b"a\0b\n", b"a\0b\n"),
        ("é\n".encode(), "é".encode()),
    ],
)
def test_the_shells_newline_is_no_part_of_a_value(
    typed: bytes, stored: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, typed)
    assert value_of(None, None) == stored
    (tmp_path / "value").write_bytes(typed)
    assert value_of(None, tmp_path / "value") == stored
    assert value_of(None, tmp_path / "value", keep_newline=True) == typed


@pytest.mark.parametrize("typed", [b"", b"\n", b"\r\n"])
def test_an_empty_pipe_is_no_value(typed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, typed)
    with pytest.raises(StrongroomError) as refused:
        value_of(None, None)
    assert (refused.value.reason, refused.value.field) == ("FIELD_REQUIRED", "value")
    with pytest.raises(StrongroomError):
        value_of("", None)


def test_a_dash_is_standard_input_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    dash = Path("-")
    piped(monkeypatch, b"content")
    assert inputs.read_bytes(None, dash, 100, "message") == b"content"
    piped(monkeypatch, b"\xef\xbb\xbfpermit (principal, action, resource);")
    assert inputs.read_text(dash).startswith("permit")
    piped(monkeypatch, b"x" * 101)
    with pytest.raises(StrongroomError) as refused:
        inputs.read_file(dash, 100)
    assert refused.value.reason == "FILE_TOO_LARGE"
    piped(monkeypatch, b"\xff")
    with pytest.raises(StrongroomError) as refused:
        inputs.read_text(dash)
    assert refused.value.reason == "FILE_NOT_TEXT"
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(StrongroomError) as refused:
        inputs.read_bytes(None, None, 100, "message")
    assert refused.value.reason == "FIELD_REQUIRED"


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(weeks=2)),
        ("0s", timedelta()),
    ],
)
def test_spans_are_written_in_one_way(text: str, span: timedelta) -> None:
    assert spans.span_of(text, "--after") == span


@pytest.mark.parametrize(
    "text", ["", "7", "d", "7y", "-7d", "7 d", "1e3d", "9999999999999d", "999999999d", "٣d", "P30D"]
)
def test_what_is_no_span_is_refused_with_its_option(text: str) -> None:
    for take in (spans.span_of, spans.moment_of, spans.later_of):
        with pytest.raises(typer.BadParameter) as refused:
            take(text, "--after")
        assert refused.value.param_hint == "--after"


def test_a_bare_number_counts_the_options_own_unit() -> None:
    assert spans.span_of("7", "--after", "d") == timedelta(days=7)
    assert spans.later_of("7", "--expires", "d") > datetime.now(UTC) + timedelta(days=6)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31", "yesterday"])
def test_times_that_nobody_can_write_down_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        spans.moment_of(text, "--since")


def test_one_pair_that_looks_like_two_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert inputs.pairs_of(["a=1,b=2"]) == {"a": "1,b=2"}
    assert "--context A=1 --context B=2" in capsys.readouterr().err
    for quiet in (["a=1,2"], ["a=1", "b=2"], ["q=x==,y"], ["a=1, or b"]):
        inputs.pairs_of(quiet)
        assert capsys.readouterr().err == ""
    with pytest.raises(typer.BadParameter):
        inputs.pairs_of(["=1"])


def in_full(name: str) -> str:
    return f"accounts/main/secrets/{name}"


def test_a_target_is_said_by_options(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    target = target_of(
        "postgresql",
        None,
        Place("db.example", 5433, "app", str(tmp_path / "ca.pem"), "orders", master="db/master"),
        in_full,
    )
    assert target is not None
    address = target.database.address
    assert (address.host, address.port, address.ca_pem[:5]) == ("db.example", 5433, "-----")
    assert (target.database.username, target.database.database) == ("app", "orders")
    assert target.database.master_secret == "accounts/main/secrets/db/master"
    redis = target_of("REDIS_ACL", None, Place("r", user="u", tls="verify-ca"), in_full)
    assert redis is not None
    assert redis.redis.username == "u"
    (tmp_path / "known").write_text("# a comment\nssh.example ssh-ed25519 AAAA\nssh-rsa BBBB\n")
    ssh = target_of("SSH_KEY_PAIR", None, Place("h", user="u", host_keys=tmp_path / "known"), in_full)
    assert ssh is not None
    assert list(ssh.ssh.host_keys) == ["ssh-ed25519 AAAA", "ssh-rsa BBBB"]
    assert target_of("GENERIC", None, Place(), in_full) is None


@pytest.mark.parametrize(
    ("kind", "place", "option"),
    [
        ("GENERIC", Place("h", user="u"), "--type"),
        ("", Place("h", user="u"), "--type"),
        ("MYSQL", Place("h"), "--user"),
        ("MYSQL", Place(user="u"), "--host"),
        ("REDIS_ACL", Place("h", user="u", database="d"), "--database"),
        ("MYSQL", Place("h", user="u", host_keys=Path("x")), "--host-keys"),
        ("POSTGRESQL", Place("h", user="u", tls="sometimes"), "--tls"),
        ("SSH_KEY_PAIR", Place("h", user="u"), "--host-keys"),
    ],
)
def test_what_does_not_fit_the_type_is_told_with_its_option(kind: str, place: Place, option: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        target_of(kind, None, place, in_full)
    assert refused.value.param_hint == option


def test_a_target_is_changed_in_what_is_given_and_stays_in_the_rest(tmp_path: Path) -> None:
    before = target_of("POSTGRESQL", None, Place("a", 1, "app", "disabled", "orders", master="m"), in_full)
    assert before is not None
    before.database.alternate_username = "app-2"
    moved = changed_target("POSTGRESQL", before, Place("b"), in_full)
    expected = RotationTarget()
    expected.CopyFrom(before)
    expected.database.address.host = "b"
    assert moved == expected
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    secured = changed_target("POSTGRESQL", before, Place(tls=str(tmp_path / "ca.pem"), user="u"), in_full)
    assert (secured.database.address.host, secured.database.address.ca_pem[:5]) == ("a", "-----")
    assert (secured.database.username, secured.database.database) == ("u", "orders")
    ssh = RotationTarget(ssh=SshTarget(host="h", username="u", host_keys=["ssh-rsa A"], key_type="rsa"))
    (tmp_path / "known").write_text("h ssh-ed25519 B\n")
    changed = changed_target("SSH_KEY_PAIR", ssh, Place(host_keys=tmp_path / "known", port=23), in_full).ssh
    assert (changed.host, changed.port, list(changed.host_keys), changed.key_type) == (
        "h",
        23,
        ["ssh-ed25519 B"],
        "rsa",
    )
    for kind, place, option in (("GENERIC", Place("h"), "--type"), ("SSH_KEY_PAIR", Place(tls="disabled"), "--tls")):
        with pytest.raises(typer.BadParameter) as refused:
            changed_target(kind, ssh, place, in_full)
        assert refused.value.param_hint == option


@pytest.mark.parametrize(
    "line",
    [
        "verify k --signature-file -",
        "mac verify k --mac-file -",
        "key material import-wrapped k --token -",
    ],
)
def test_standard_input_is_read_once(line: str) -> None:
    ended = run(*line.split(), stdin="x")
    assert ended.exit_code == Status.USAGE
    assert "are to come from standard input" in ended.stderr


def test_a_target_from_a_file_goes_without_the_others(tmp_path: Path) -> None:
    (tmp_path / "target.json").write_text('{"redis": {"address": {"host": "r"}, "username": "u"}}')
    target = target_of("REDIS_ACL", tmp_path / "target.json", Place(), in_full)
    assert target is not None
    with pytest.raises(typer.BadParameter):
        target_of("REDIS_ACL", tmp_path / "target.json", Place("h"), in_full)
    (tmp_path / "target.json").write_text("{")
    assert run("secret", "create", "x", "--text", "v", "--target", str(tmp_path / "target.json")).exit_code in (2, 3)


@pytest.mark.parametrize(
    "line",
    [
        "login --client-key a --secret-file -",
        "login --oidc-token-file -",
        "profile create x h:1 --trust -",
        "profile create x h:1 --certificate -",
        "profile create x h:1 --key -",
        "profile edit dev --secret-file -",
        "profile edit dev --oidc-token-file -",
        "migrate vault --address https://v --ca -",
    ],
)
def test_a_file_that_is_read_again_later_is_no_standard_input(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = 'current = "dev"\n[profiles.dev.endpoints]\ncrypto = "127.0.0.1:1"\n'
    (tmp_path / "profiles.toml").write_text(profile)
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    ended = run(*line.split(), stdin="x")
    assert (ended.exit_code, "read again later" in ended.stderr) == (Status.USAGE, True), ended.stderr
    assert line.split()[-2] in ended.stderr
    assert (tmp_path / "profiles.toml").read_text() == profile


@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 61, 3600, 5400, 86_400, 90_061, 694_861, 31_536_000])
def test_a_span_that_is_shown_can_be_typed(seconds: int) -> None:
    span = timedelta(seconds=seconds)
    assert spans.span_of(tables.span_text(span), "--grace") == span
    assert spans.span_of(tables.span_text(span).replace(" ", ""), "--grace") == span
    assert spans.span_of(plain(span), "--grace") == span


def test_a_time_that_is_shown_can_be_typed() -> None:
    time = datetime(2026, 11, 24, 2, 25, tzinfo=UTC)
    for shown in (tables.time_text(time), tables.time_text(time, local=True), plain(time)):
        assert spans.moment_of(shown, "--since") == time
