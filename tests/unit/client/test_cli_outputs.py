"""What a command writes can be written before anything is asked of the mesh: an account that was made is made."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.calls.access.client_keys import ClientKey, CreatedClientKey
from strongroom.calls.crypto.results import DataKey
from strongroom.cli import command as commands_module
from strongroom.cli.complaints import Status
from strongroom.names import Names
from tests.support.cli import commands, run

WRITES = re.compile(r"^Write\b")
# Files are told one by one what became of them, and checked one by one.
ONE_BY_ONE = {"file encrypt", "file decrypt"}
SECRET = "strongroom_ck_secret"


def outputs() -> list[tuple[str, str]]:
    """Every option whose file a command writes, with its command."""
    return [
        (name, parameter.opts[0])
        for name, command in commands().items()
        for parameter in command.params
        if WRITES.match(getattr(parameter, "help", None) or "") and (parameter.metavar or "") == "FILE"
        if name not in ONE_BY_ONE
    ]


def example_of(command: str) -> list[str]:
    words = shlex.split(commands()[command].examples[0])[1:]
    return words[: next((place for place, word in enumerate(words) if word in ("|", "<", ">")), len(words))]


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    (tmp_path / "there").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("no-such-folder/file")


def answering(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    monkeypatch.setattr(commands_module.Session, "client", client)


def test_every_file_that_is_written_is_among_these() -> None:
    assert {command for command, _ in outputs()} >= {
        "account create",
        "assume-role",
        "audit checkpoint",
        "audit prove",
        "audit report",
        "client-key create",
        "data-key",
        "public-key get",
        "secret get",
    }


@pytest.mark.parametrize(("command", "option"), outputs())
@pytest.mark.parametrize(
    ("path", "reason", "status"),
    [
        ("there", "FILE_EXISTS", Status.REFUSED),
        ("nowhere", "FILE_EXISTS", Status.REFUSED),
        ("folder", "FILE_NOT_REGULAR", Status.REFUSED),
        ("no-such-folder/file", "IO_ERROR", Status.LOCAL),
        ("there/file", "IO_ERROR", Status.LOCAL),
        ("/proc/file", "IO_ERROR", Status.LOCAL),
        ("n" * 300, "IO_ERROR", Status.LOCAL),
        ("n" * 250, "IO_ERROR", Status.LOCAL),
    ],
)
def test_what_cannot_be_written_is_told_before_the_mesh_is_asked(
    command: str, option: str, path: str, reason: str, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(_: object) -> object:
        raise AssertionError("the mesh was asked")

    answering(monkeypatch, property(asked))
    ended = run(*example_of(command), option, path, stdin="given")
    assert (ended.exit_code, f"({reason})" in ended.stderr) == (status, True), ended.stderr
    assert path in ended.stderr
    assert Path("there").read_text() == "kept"
    assert [one.name for one in Path().iterdir() if ".partial" in one.name] == []


class _ClientKeys:
    def create(self, *_: object, **__: object) -> CreatedClientKey:
        fields: Mapping[str, Any] = dict.fromkeys(ClientKey.__dataclass_fields__)
        return CreatedClientKey(ClientKey(**{**fields, "name": "accounts/main/clientKeys/ck-1"}), SECRET)


CLIENT_KEYS = SimpleNamespace(access=SimpleNamespace(client_keys=_ClientKeys()), names=Names("accounts/main"))


@pytest.mark.parametrize("form", ["table", "json", "yaml", "name"])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_secret_whose_file_cannot_be_written_after_all_is_shown_on_a_terminal_alone(
    form: str, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, CLIENT_KEYS)
    failing_first(monkeypatch)
    monkeypatch.setattr("strongroom.cli.outputs._is_terminal", lambda: terminal)
    ended = run("client-key", "create", "users/x", "--secret-out", "made", "-o", form)
    assert ended.exit_code == Status.LOCAL
    assert (SECRET in ended.stdout) is terminal
    assert SECRET not in ended.stderr
    assert not Path("made").exists()
    kept = [path for path in Path().glob("secret-*") if path.read_text() == SECRET]
    assert len(kept) == (0 if terminal else 1)
    if kept:
        assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600
        assert kept[0].name in ended.stdout + ended.stderr
    if form == "json":
        told = json.loads(ended.stderr)["error"]
        assert (told["path"], told["exit_status"]) == ("made", Status.LOCAL)
    else:
        assert "made: No space left on device" in ended.stderr


@pytest.mark.parametrize("form", ["table", "json", "yaml", "name"])
def test_a_secret_that_can_be_kept_nowhere_goes_into_no_pipe(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, CLIENT_KEYS)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ended = run("client-key", "create", "users/x", "--secret-out", "made", "-o", form)
    assert (ended.exit_code, SECRET in ended.stdout + ended.stderr) == (Status.LOCAL, False)
    assert form == "json" or "make another one" in ended.stderr


def failing_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the first file that is written fail."""
    synced, left = os.fsync, [OSError(28, "No space left on device")]

    def full_once(number: int) -> None:
        if left:
            raise left.pop()
        synced(number)

    monkeypatch.setattr(os, "fsync", full_once)


@pytest.mark.parametrize("command", sorted({command for command, option in outputs() if option == "--secret-out"}))
def test_names_alone_would_lose_a_secret(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_: object) -> object:
        raise AssertionError("the mesh was asked")

    answering(monkeypatch, property(asked))
    words = [word for word in example_of(command) if word != "--secret-out" and not word.endswith(".secret")]
    ended = run(*words, "-o", "name")
    assert (ended.exit_code, "--secret-out" in ended.stderr) == (Status.USAGE, True), ended.stderr


def data_key(*_: object, **__: object) -> DataKey:
    fields: Mapping[str, Any] = dict.fromkeys(DataKey.__dataclass_fields__, "")
    return DataKey(**{**fields, "plaintext": b"\x00bare", "ciphertext": b"\x01sealed"})


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    answering(monkeypatch, SimpleNamespace(generate_data_key=data_key, names=Names("accounts/main")))
    return lambda *words: run("data-key", "k", *words)


@pytest.mark.parametrize(
    "words",
    [
        ["--plaintext-out", "a", "--ciphertext-out", "there"],
        ["--plaintext-out", "there", "--ciphertext-out", "a"],
        ["--plaintext-out", "a", "--ciphertext-out", "a"],
        ["--plaintext-out", "a", "--ciphertext-out", "./a", "--force"],
        ["--plaintext-out", "-", "--ciphertext-out", "-"],
        ["--plaintext-out", "-"],
        ["--ciphertext-out", "-"],
    ],
    ids=" ".join,
)
def test_of_two_files_none_is_written_where_one_would_be_lost(typed: Callable[..., Any], words: list[str]) -> None:
    ended = typed(*words)
    assert ended.exit_code in (Status.USAGE, Status.REFUSED)
    assert ended.stdout == ""
    assert not Path("a").exists()
    assert Path("there").read_text() == "kept"


def test_bytes_for_standard_output_stand_there_alone(typed: Callable[..., Any]) -> None:
    ended = typed("--plaintext-out", "-", "--ciphertext-out", "sealed")
    assert (ended.exit_code, ended.stdout_bytes) == (0, b"\x00bare")
    assert ended.stderr == "wrote 7 bytes to sealed\n"
    assert Path("sealed").read_bytes() == b"\x01sealed"
    written = typed("--plaintext-out", "bare", "--ciphertext-out", "sealed", "--force")
    assert (written.exit_code, Path("bare").read_bytes()) == (0, b"\x00bare")
    assert [line.split()[-1] for line in written.stdout.splitlines()] == ["sealed", "bare"]
