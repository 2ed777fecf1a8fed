"""However a command ends, it says so in one line or one JSON object, with a status of its own, not as Python does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli import command as commands
from strongroom.cli.complaints import Status
from strongroom.cli.hints import hint_for
from strongroom.cli.request_fields import Typed
from strongroom.errors import StrongroomError
from tests.support.cli import run

STRONGROOM = str(Path(sys.executable).parent / "strongroom")
PROFILES = """\
current = "dev"
[profiles.dev]
account = "main"
[profiles.dev.endpoints]
keystore = "127.0.0.1:1"
crypto = "127.0.0.1:1"
secrets = "127.0.0.1:1"
audit = "127.0.0.1:1"
"""
EVENT = "0198c7c4-1a2b-7c3d-8e4f-5a6b7c8d9e0f"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "profiles.toml"
    path.write_text(PROFILES)
    monkeypatch.setenv("STRONGROOM_CONFIG", str(path))
    for variable in ("STRONGROOM_PROFILE", "STRONGROOM_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return path


def typed(*arguments: str | bytes, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """What comes of a command in a process of its own."""
    more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run([STRONGROOM, *arguments], check=False, timeout=60, **more)


def refusing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Lets every command end with an error."""

    def client(_: object) -> object:
        raise error

    monkeypatch.setattr(commands.Session, "client", property(client))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StrongroomError("KEY_DISABLED", "key k is DISABLED", code="FAILED_PRECONDITION"), Status.REFUSED),
        (StrongroomError("UNREACHABLE", "crypto cannot be reached", code="UNAVAILABLE"), Status.UNREACHABLE),
        (StrongroomError("AUDIT_UNREACHABLE", "audit is away", code="UNAVAILABLE"), Status.UNREACHABLE),
        (StrongroomError("DEADLINE_EXCEEDED", "late", code="DEADLINE_EXCEEDED"), Status.UNREACHABLE),
        (FileNotFoundError(2, "No such file or directory", "/no/such"), Status.LOCAL),
        (PermissionError(13, "Permission denied", "/no/such"), Status.LOCAL),
        (IsADirectoryError(21, "Is a directory", "/"), Status.LOCAL),
        (ValueError("metadata was invalid"), Status.FAULT),
        (RecursionError("too deep"), Status.FAULT),
        (MemoryError(), Status.FAULT),
        (OverflowError("int too large\nto convert"), Status.FAULT),
        (KeyboardInterrupt(), Status.INTERRUPTED),
        (BrokenPipeError(32, "Broken pipe"), Status.PIPE_CLOSED),
    ],
    ids=lambda value: getattr(value, "reason", type(value).__name__),
)
@pytest.mark.parametrize("form", ["table", "json"])
def test_every_error_has_its_status_and_no_traceback(
    error: BaseException, status: Status, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, error)
    ended = run("key", "list", "-o", form)
    assert (ended.exit_code, ended.stdout) == (status, "")
    assert "Traceback" not in ended.stderr
    quiet = status in (Status.INTERRUPTED, Status.PIPE_CLOSED)
    assert ended.stderr.count("\n") == (0 if quiet else 1)
    if form == "json" and not quiet:
        told = json.loads(ended.stderr)["error"]
        assert told["exit_status"] == status
        assert told["reason"] in (getattr(error, "reason", ""), "IO_ERROR", "INTERNAL")


def test_an_error_in_json_says_all_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    error = StrongroomError(
        "PERMISSION_DENIED",
        "not permitted",
        code="PERMISSION_DENIED",
        field="key",
        metadata={"action": "crypto:Encrypt"},
        event_id=EVENT,
        trace_id="ab" * 16,
    )
    refusing(monkeypatch, error)
    told = json.loads(run("key", "describe", "k", "--json").stderr)["error"]
    assert told == {
        "reason": "PERMISSION_DENIED",
        "message": "not permitted",
        "hint": f"whoever may read the audit log sees why: `strongroom access why {EVENT}`",
        "field": "key",
        "metadata": {"action": "crypto:Encrypt"},
        "event_id": EVENT,
        "trace_id": "ab" * 16,
        "exit_status": Status.REFUSED,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["key"],
        ["key", "describe"],
        ["key", "list", "--no-such-option"],
        ["key", "list", "--limit", "many"],
        ["key", "list", "--limit", "0"],
        ["key", "create", "a", "--tag", "team"],
        ["key", "schedule-deletion", "a", "--after", "999999999d"],
        ["audit", "events", "--since", "99999999999999d"],
        ["audit", "events", "--limit", "99999999999999999999"],
        ["client-key", "create", "users/a", "--expires", "9999999999999999d"],
        ["quota", "set", "--burst", "99999999999999999999"],
        ["secret", "get", "a/versions/x"],
        ["key", "version", "destroy", "a/versions/1"],
        ["sign", "k", "--text", "a", "--in", "b"],
    ],
    ids=" ".join,
)
def test_misuse_is_one_line_and_exits_two(arguments: list[str]) -> None:
    ended = run(*arguments)
    assert (ended.exit_code, ended.stdout) == (Status.USAGE, "")
    if len(arguments) > 1 or "no-such" in arguments[0]:
        assert re.fullmatch(r"error: .*\(USAGE\)\n", ended.stderr)
        assert json.loads(run(*arguments, "--json").stderr)["error"]["reason"] == "USAGE"


def test_a_command_that_is_misspelt_is_told_the_likeliest() -> None:
    assert "`strongroom encrypt`" in run("encrpyt").stderr
    assert "`strongroom key describe`" in run("key", "descibe", "k").stderr
    assert "`strongroom key schedule-deletion`" in run("key", "delete", "k").stderr
    assert "`strongroom secret list`" in run("secret", "ls").stderr
    assert "crypto:Encrypt" in run("audit", "events", "--action", "Encrypt").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["key", "describe", b"k\xff"],
        ["encrypt", "k", "--text", b"\xff\xfe"],
        ["encrypt", "k", "--context", b"a=\xc3\x28"],
        ["secret", "get", b"\xed\xa0\x80"],
    ],
)
def test_arguments_that_are_not_utf8_are_told(arguments: list[str | bytes]) -> None:
    ended = typed(*arguments)
    assert (ended.returncode, ended.stdout) == (Status.USAGE, b"")
    assert b"not UTF-8" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["key", "material", "import", "k"], {}),
        (["secret", "create", "s"], {}),
        (["encrypt", "k"], {"preexec_fn": lambda: os.close(0)}),
        (["key", "list"], {"env": {"PATH": os.environ["PATH"], "HOME": "/nowhere"}}),
        (["decrypt", "--in", "/proc/self/mem"], {}),
        (["decrypt", "--in", "/"], {}),
        (["audit", "verify", "nowhere", "--key", "x"], {}),
        (["policy", "validate", "/dev/null"], {}),
        (["login", "--client-key", "a"], {}),
        (["key", "list", "--profile", "\x1b[2J"], {}),
        (["trace"], {}),
        (["run", "--env", "A=secret:x", "--", "true"], {}),
        (["run", "--file", "A=secret:x", "--", "true"], {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_odd_surroundings_are_told_in_one_line(arguments: list[str], more: dict[str, Any]) -> None:
    ended = typed(*arguments, **more)
    assert ended.returncode in (Status.USAGE, Status.REFUSED, Status.UNREACHABLE, Status.LOCAL)
    assert re.fullmatch(rb"error: [^\n\x1b]*\n", ended.stderr), ended.stderr


def test_somebody_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def expanduser(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("STRONGROOM_CONFIG", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "expanduser", expanduser)
    ended = run("key", "list")
    assert ended.exit_code == Status.REFUSED
    assert "STRONGROOM_CONFIG" in ended.stderr


def test_output_that_cannot_be_written_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = typed("help", "values", stdout=full)
    assert ended.returncode == Status.LOCAL
    assert ended.stderr == b"error: No space left on device (IO_ERROR)\n"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["no-such-command"], Status.USAGE),
        (["key", "list", "--limit", "many", "--json"], Status.USAGE),
        (["key", "describe", "k", "--profile", "none"], Status.REFUSED),
        (["key", "describe", "k"], Status.UNREACHABLE),
        (["decrypt", "--in", "/nowhere", "--json"], Status.LOCAL),
        (["key", "list", "--tag"], Status.USAGE),
    ],
)
def test_an_error_that_nobody_can_be_told_keeps_its_status(arguments: list[str], status: Status) -> None:
    with Path("/dev/full").open("wb") as full:
        assert typed(*arguments, stderr=full).returncode == status


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_stream_that_is_closed_is_told_or_done_without(stream: int) -> None:
    ended = typed("help", "-o", "name", preexec_fn=lambda: os.close(stream))
    assert b"Traceback" not in ended.stderr
    assert ended.returncode == (Status.LOCAL if stream == 1 else Status.DONE)
    assert (ended.stdout == b"") == (stream == 1)


def test_a_reader_that_stops_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = typed("help", "values", stdout=writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (Status.PIPE_CLOSED, b"")


@pytest.mark.parametrize("name", ["STRONGROOM_PROFLE", "STRONGROOM_CONFG", "STRONGROOM_TOKENS"])
def test_a_variable_that_is_misspelt_is_refused_with_the_one_that_is_meant(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    ended = run("help")
    assert (ended.exit_code, name in ended.stderr) == (Status.USAGE, True)
    assert re.search(r"STRONGROOM_(PROFILE|CONFIG|TOKEN) is meant", ended.stderr)


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRONGROOM_KEYSTORE__TLS__TRUST", "STRONGROOM_FAULT_RUNS", "STRONGROOM_WORKER"):
        monkeypatch.setenv(name, "1")
    assert run("help").exit_code == 0


def test_a_fault_shows_where_it_is_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, ValueError("odd"))
    told = run("key", "list").stderr
    assert "STRONGROOM_DEBUG=1" in told
    monkeypatch.setenv("STRONGROOM_DEBUG", "1")
    assert isinstance(run("key", "list").exception, ValueError)


def test_errors_name_the_option_and_the_next_step() -> None:
    flags = Typed({"key": "KEY", "rotate_every": "--rotate-every", "after": "--after", "context": "--context"})
    field = StrongroomError("FIELD_INVALID", "rotation_policy is for AES keys", field="key.rotation_policy")
    assert hint_for(field, flags) == "that is --rotate-every"
    window = StrongroomError("FIELD_INVALID", "pending_window is not 7 to 366 days", field="pending_window")
    assert hint_for(window, flags) == "that is --after"
    version = StrongroomError("NAME_MALFORMED", "key is not an id: payments/versions/1", field="key")
    assert "`strongroom key version`" in hint_for(version, flags)
    encrypting = Typed(flags.flags, command="encrypt")
    assert "strongroom key version" not in hint_for(version, encrypting)
    assert "`strongroom help versions`" in hint_for(version, encrypting)
    for told in ("accounts/main/keys/payments/versions/1 is DISABLED", "version 1 of key payments is DISABLED"):
        off = StrongroomError("KEY_DISABLED", told)
        assert "`strongroom key version enable KEY/versions/NUMBER`" in hint_for(off, flags)
    assert "`strongroom key enable KEY`" in hint_for(StrongroomError("KEY_DISABLED", "key k is DISABLED"), flags)
    soon = StrongroomError("QUOTA_EXCEEDED", "too many calls", retry_after_seconds=0.84)
    assert hint_for(soon, flags).startswith("wait 0.9 s; ")
    at_once = StrongroomError("QUOTA_EXCEEDED", "too many calls", retry_after_seconds=0.004)
    assert hint_for(at_once, flags).startswith("wait 0.1 s; ")
    untrusted = StrongroomError("UNREACHABLE", "the mesh cannot be reached: CERTIFICATE_VERIFY_FAILED")
    assert "--trust" in hint_for(untrusted, flags)
    others = StrongroomError("KEY_USAGE_INVALID", "crypto:Encrypt cannot use k, which is RSA_2048 for ENCRYPT_DECRYPT")
    assert "`strongroom public-key encrypt`" in hint_for(others, flags)
    sealed = StrongroomError("CIPHERTEXT_INVALID", "no such ciphertext")
    assert "the --context that" in hint_for(sealed, flags)
    assert "the --source-context that" in hint_for(sealed, Typed({"source_context": "--source-context"}))
    no_event = StrongroomError("PERMISSION_DENIED", "no")
    assert hint_for(no_event, flags) == "`strongroom help PERMISSION_DENIED` explains it"


def test_a_version_where_a_key_is_meant_is_told_the_other_command() -> None:
    ended = run("key", "disable", "payments/versions/1")
    assert ended.exit_code == Status.REFUSED
    assert "`strongroom key version`" in ended.stderr


def test_an_option_of_before_is_not_suggested() -> None:
    assert "(Possible options: --after)" in run("key", "schedule-deletion", "k", "--day", "3").stderr
    ended = run("key", "schedule-deletion", "k", "--yes")
    assert (ended.exit_code, "asks nothing, and takes no --yes" in ended.stderr) == (Status.USAGE, True)


def test_a_file_that_is_no_encrypted_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "backup.tar").write_bytes(b"plain")
    (tmp_path / "backup.strongroom").write_bytes(b"plain")
    # Its message has this letter in it, too.
    (tmp_path / "m").write_bytes(b"plain")
    for line, name in (
        ("file inspect backup.tar", "backup.tar"),
        ("file inspect m", "m"),
        ("file decrypt backup.strongroom --out x", "backup.strongroom"),
    ):
        ended = run(*line.split())
        assert (ended.exit_code, ended.stderr.startswith(f"error: {name}: ")) == (Status.REFUSED, True), ended.stderr


def test_a_login_by_a_certificate_that_there_is_not_asks_nobody() -> None:
    ended = run("login", "--certificate")
    assert (ended.exit_code, "`strongroom profile edit dev --certificate" in ended.stderr) == (Status.REFUSED, True)


def test_a_mesh_that_is_down_is_one_line_and_a_row_for_each_service() -> None:
    ended = run("key", "list")
    assert (ended.exit_code, ended.stderr.count("\n")) == (Status.UNREACHABLE, 1)
    assert len(ended.stderr) < 300
    status = run("status")
    assert status.exit_code == Status.NO
    assert [line.split()[1] for line in status.stdout.splitlines()] == ["state", *["DOWN"] * 4]
    assert all(len(line) < 160 for line in status.stdout.splitlines())


def test_an_answer_with_nothing_in_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def list(self, *_: object, **__: object) -> list[object]:
            return []

    class Client:
        keys = Nothing()

    monkeypatch.setattr(commands.Session, "client", Client())
    ended = run("key", "list", "--filter", "tags.team = none")
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == "no keys with filter tags.team = none\n"
    assert json.loads(run("key", "list", "--json").stdout) == {"keys": []}


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("key list --filter", "strongroom key list"),
        ("secret update x --retained-versions", "strongroom secret update"),
        ("audit events --limit", "strongroom audit events"),
        ("key version destroy", "strongroom key version destroy"),
        ("encrypt --no-such", "strongroom encrypt"),
        ("encrypt k --in", "strongroom encrypt"),
    ],
)
def test_a_usage_error_points_to_the_help_of_its_command(line: str, path: str) -> None:
    ended = run(*line.split())
    assert (ended.exit_code, f"`{path} --help` says more" in ended.stderr) == (Status.USAGE, True), ended.stderr
