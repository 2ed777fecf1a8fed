"""Of several things, and of none at all: the status says what became of them, and nobody waits for what never was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.cli import audit
from strongroom.cli import command as commands_module
from strongroom.cli.complaints import Status
from strongroom.errors import StrongroomError
from strongroom.migration.copying import Found
from strongroom.names import Names
from tests.support.cli import run

DOWN = StrongroomError("UNREACHABLE", "secrets cannot be reached", code="UNAVAILABLE")
ABSENT = StrongroomError("SECRET_NOT_FOUND", "there is no such secret", code="NOT_FOUND")


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAULT_TOKEN", raising=False)


def answering(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    monkeypatch.setattr(commands_module.Session, "client", SimpleNamespace(names=Names("main"), **parts))


def rotating(monkeypatch: pytest.MonkeyPatch, **errors: StrongroomError | None) -> None:
    def rotate(secret: str) -> Any:
        error = errors[secret]
        if error is not None:
            raise error
        return SimpleNamespace(state="SUCCEEDED", attempts=[], step="FINISH")

    answering(monkeypatch, secrets=SimpleNamespace(rotate=rotate))


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ({"a": None}, Status.DONE),
        ({"a": DOWN}, Status.UNREACHABLE),
        ({"a": ABSENT}, Status.REFUSED),
        ({"a": DOWN, "b": DOWN}, Status.UNREACHABLE),
        ({"a": ABSENT, "b": ABSENT}, Status.REFUSED),
        ({"a": ABSENT, "b": DOWN}, Status.NO),
        ({"a": ABSENT, "b": None}, Status.NO),
    ],
)
def test_rotations_end_with_the_status_of_what_failed(
    errors: dict[str, StrongroomError | None], status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotating(monkeypatch, **errors)
    assert run("secret", "rotate", *errors).exit_code == status
    ended = run("secret", "rotate", *errors, "--json")
    assert ended.exit_code == status
    told = [json.loads(line)["error"]["reason"] for line in ended.stderr.splitlines()]
    assert sorted(told) == sorted(error.reason for error in errors.values() if error is not None)


def test_a_rotation_that_waits_for_its_target_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def state(state: str, *attempts: str) -> Any:
        ended = [SimpleNamespace(step="SET", error_reason=x and "X", error_detail=x) for x in attempts]
        running = SimpleNamespace(step="SET", error_reason="", error_detail="")
        tried = ended if state == "SUCCEEDED" else [*ended, running]
        return SimpleNamespace(state=state, step="SET", attempts=tried)

    course = iter(
        [
            state("WAITING", "h cannot be reached"),
            state("WAITING", "h cannot be reached", "h cannot be reached"),
            state("RUNNING", "h cannot be reached", "h refuses"),
            state("SUCCEEDED", ""),
        ]
    )
    rotations = SimpleNamespace(list=lambda *_, **__: [next(course)])
    answering(monkeypatch, secrets=SimpleNamespace(rotate=lambda _: state("RUNNING"), rotations=rotations))
    monkeypatch.setattr("strongroom.cli.rotations._POLL_SECONDS", 0)
    ended = run("secret", "rotate", "db")
    assert ended.exit_code == 0
    told = [line for line in ended.stderr.splitlines() if line.startswith("note: db: SET failed, ")]
    assert [line.partition(";")[0].rpartition(", ")[2] for line in told] == ["h cannot be reached", "h refuses"]


class Place:
    """Secrets of another place."""

    title = "vault:secret"

    def __init__(self, *names: str) -> None:
        self._names = names

    def names(self) -> Iterator[str]:
        return iter(self._names)

    def read(self, name: str) -> Found:
        return Found(name, b"v")


def copied(monkeypatch: pytest.MonkeyPatch, names: list[str], error: StrongroomError | None) -> Any:
    def get_value(_: str) -> Any:
        raise error or ABSENT

    answering(monkeypatch, secrets=SimpleNamespace(get_value=get_value, create=lambda *_, **__: None))
    monkeypatch.setattr("strongroom.migration.vault.VaultPlace", lambda *_, **__: Place(*names))
    return run("migrate", "vault", "--address", "https://v", "--json")


def test_copies_end_with_the_status_of_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = StrongroomError("PERMISSION_DENIED", "no", code="PERMISSION_DENIED")
    assert copied(monkeypatch, ["a", "b"], None).exit_code == Status.DONE
    for error, status in ((DOWN, Status.UNREACHABLE), (denied, Status.REFUSED)):
        ended = copied(monkeypatch, ["a", "b"], error)
        assert ended.exit_code == status
        assert [json.loads(line)["error"]["reason"] for line in ended.stderr.splitlines()] == [error.reason] * 2
    assert copied(monkeypatch, ["a", "A"], None).exit_code == Status.NO


def test_nothing_to_copy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = copied(monkeypatch, [], None)
    assert (ended.exit_code, "NOTHING_MATCHED" in ended.stderr) == (Status.REFUSED, True)


@pytest.mark.parametrize(
    "words",
    [
        ["encrypt", "k", "folder"],
        ["decrypt", "folder"],
        ["rewrap", "folder", "--recipient", "k"],
        ["inspect", "folder"],
        ["decrypt", "folder", "other"],
    ],
    ids=" ".join,
)
def test_a_folder_without_such_files_is_told(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("folder", "other"):
        Path(name).mkdir()
    answering(monkeypatch)
    (Path("folder") / ("x.strongroom" if words[0] == "encrypt" else "x.txt")).write_text("x")
    ended = run("file", *words)
    assert (ended.exit_code, "NOTHING_MATCHED" in ended.stderr) == (Status.REFUSED, True), ended.stderr


def homeless(_: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_token_is_read_from_standard_input_and_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens: list[str] = []

    def place(_: str, token: str, **__: object) -> Place:
        tokens.append(token)
        return Place("a")

    answering(
        monkeypatch,
        secrets=SimpleNamespace(get_value=lambda _: (_ for _ in ()).throw(ABSENT), create=lambda *_, **__: None),
    )
    monkeypatch.setattr("strongroom.migration.vault.VaultPlace", place)
    assert run("migrate", "vault", "--token-file", "-", stdin="s.token\n").exit_code == 0
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert run("migrate", "vault").exit_code == 0
    assert tokens == ["s.token", ""]


def test_whoever_has_no_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def client(_: object) -> object:
        return homeless(Path())

    monkeypatch.setattr(commands_module.Session, "client", property(client))
    ended = run("key", "list")
    assert (ended.exit_code, ended.stderr) == (
        Status.LOCAL,
        "error: there is no home directory: set HOME (IO_ERROR)\n",
    )


Streams = list[list[StrongroomError | str | None]]


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Streams], Any]:
    """What comes of following streams: of each the events, signs of life (None), and the error that ends it."""
    monkeypatch.setattr(audit, "_AGAIN_SECONDS", 0)

    def follow(streams: Streams) -> Any:
        left = iter(streams)

        def stream(*, alive: Callable[[], None], **_: object) -> Iterator[Any]:
            for one in next(left):
                if isinstance(one, StrongroomError):
                    raise one
                alive()
                if one is not None:
                    event = SimpleNamespace(
                        id=one, time=None, principal="", action=one, resource="", outcome="", reason=""
                    )
                    yield SimpleNamespace(event=event, resume_token=one)

        answering(monkeypatch, audit=SimpleNamespace(events=SimpleNamespace(stream=stream)))
        return run("audit", "tail", "--limit", "2")

    return follow


@pytest.mark.parametrize("reason", ["UNREACHABLE", "UNAVAILABLE", "PERMISSION_DENIED"])
def test_what_never_answered_is_not_waited_for(followed: Callable[[Streams], Any], reason: str) -> None:
    code = "PERMISSION_DENIED" if reason == "PERMISSION_DENIED" else "UNAVAILABLE"
    ended = followed([[StrongroomError(reason, "audit at 127.0.0.1:1 cannot be reached", code=code)]])
    assert (ended.exit_code, ended.stdout) == (Status.UNREACHABLE if code == "UNAVAILABLE" else Status.REFUSED, "")
    assert f"({reason})" in ended.stderr


@pytest.mark.parametrize(
    "first", [["a", DOWN], [None, DOWN], [StrongroomError("SHUTTING_DOWN", "x", code="UNAVAILABLE")]]
)
def test_what_answered_is_waited_for_and_each_break_is_told_once(
    followed: Callable[[Streams], Any], first: list[StrongroomError | str | None]
) -> None:
    ended = followed([first, [DOWN], [DOWN], ["b", DOWN], [DOWN], ["c"]])
    assert ended.exit_code == 0
    assert len(ended.stderr.splitlines()) == (1 if first[0] == "a" else 2)
    assert all(line.startswith("note: ") for line in ended.stderr.splitlines())


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("DATABASE_UNAVAILABLE", "UNAVAILABLE"),
        ("KEYSTORE_UNREACHABLE", "UNAVAILABLE"),
        ("CRYPTO_UNREACHABLE", "UNAVAILABLE"),
        ("AUDIT_SEALING_KEY_UNAVAILABLE", "UNAVAILABLE"),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        ("QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_tail_goes_on_over_what_heals_by_itself(followed: Callable[[Streams], Any], reason: str, code: str) -> None:
    heals = StrongroomError(reason, "not now", code=code)
    ended = followed([["a", heals], [heals], ["b"]])
    assert ended.exit_code == 0
    # Before there was any answer, nobody knows whether there ever will be one.
    assert followed([[heals]]).exit_code != 0


@pytest.mark.parametrize(("reason", "code"), [("INTERNAL", "INTERNAL"), ("RESUME_TOKEN_INVALID", "INVALID_ARGUMENT")])
def test_a_tail_ends_by_what_does_not_heal(followed: Callable[[Streams], Any], reason: str, code: str) -> None:
    ended = followed([["a", StrongroomError(reason, "no", code=code)]])
    assert f"({reason})" in ended.stderr
    assert ended.exit_code == Status.REFUSED
