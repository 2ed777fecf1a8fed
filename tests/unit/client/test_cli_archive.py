"""That nobody used something is said of all events, those in the archive too, and only of what there is or was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.calls.audit.events import Event
from strongroom.cli import command as commands_module
from strongroom.cli.complaints import Status
from strongroom.errors import StrongroomError
from strongroom.names import Names
from tests.support.cli import run

DB = "accounts/main/secrets/db"
READ = "secrets:GetSecretValue"
FIELDS: dict[str, Any] = dict.fromkeys(Event.__dataclass_fields__, "")
BLANK = Event(**{**FIELDS, "item_count": 1, "attributes": {}})


def event(number: int, days: int, version: int = 1, **fields: Any) -> Event:
    time = datetime.now(UTC) - timedelta(days=days)
    context = {"strongroom:version": str(version)}
    given = {"resource": DB, "action": READ, "outcome": "ALLOWED", "principal": "accounts/main/users/ann", **fields}
    return replace(BLANK, id=str(number), time=time, encryption_context=context, **given)


class Mesh:
    """Events, those that are older than thirty days in the archive, and secrets with so many versions."""

    names = Names("main")

    def __init__(self, events: list[Event], secrets: dict[str, int], *, may_list: bool = True) -> None:
        self._events, self._secrets, self._may_list = events, secrets, may_list
        self.audit = SimpleNamespace(events=SimpleNamespace(list=self._list))
        self.secrets = SimpleNamespace(versions=SimpleNamespace(list=self._versions))

    def _list(self, *, archive: bool = False, oldest_first: bool = False, limit: int = 99, **asked: Any) -> list[Event]:
        indexed = datetime.now(UTC) - timedelta(days=30)
        found = [
            one
            for one in self._events
            if one.time is not None
            and (archive or one.time > indexed)
            and one.time >= (asked.get("since") or one.time)
            and all(not asked.get(name) or getattr(one, name) == asked[name] for name in ("action", "outcome"))
            and one.resource in (asked.get("resource") or one.resource, f"accounts/main/{asked.get('resource')}")
        ]
        return sorted(found, key=lambda one: str(one.time), reverse=not oldest_first)[:limit]

    def _versions(self, secret: str, *, limit: int) -> Iterator[Any]:
        if not self._may_list:
            raise StrongroomError("PERMISSION_DENIED", "no", code="PERMISSION_DENIED")
        newest = self._secrets.get(secret)
        if newest is None:
            raise StrongroomError("SECRET_NOT_FOUND", f"there is no {secret}", code="NOT_FOUND")
        return iter([SimpleNamespace(name=f"{secret}/versions/{newest}")][:limit])


def with_mesh(monkeypatch: pytest.MonkeyPatch, *events: Event, may_list: bool = True, **secrets: int) -> None:
    of_names = {f"accounts/main/secrets/{name}": newest for name, newest in secrets.items()}
    monkeypatch.setattr(commands_module.Session, "client", Mesh(list(events), of_names, may_list=may_list))


def test_readers_of_before_are_found_in_the_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mesh(monkeypatch, event(1, 80), event(2, 50, 2), event(3, 1, 2), db=2)
    found = json.loads(run("secret", "readers", "db", "--since", "90d", "--json").stdout)["readers"]
    assert [(row["version"], row["count"]) for row in found] == [("2", 2), ("1", 1)]
    for name in ("db/versions/2", "db/versions/02"):
        (row,) = json.loads(run("secret", "readers", name, "--since", "90d", "--json").stdout)["readers"]
        assert row["count"] == 2


@pytest.mark.parametrize(
    ("secret", "reason"), [("nosuch", "SECRET_NOT_FOUND"), ("db/versions/3", "SECRET_VERSION_NOT_FOUND")]
)
def test_that_nobody_read_it_is_not_said_of_what_never_was(
    secret: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_mesh(monkeypatch, event(1, 1, resource="accounts/main/secrets/nosuch", outcome="FAILED"), event(2, 1), db=2)
    ended = run("secret", "readers", secret)
    assert (ended.exit_code, ended.stdout) == (Status.REFUSED, "")
    assert f"({reason})" in ended.stderr


def test_that_nobody_read_it_is_said_of_what_is_and_of_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    made = event(1, 400, action="secrets:CreateSecret")
    with_mesh(monkeypatch, made, db=2)
    for secret in ("db", "db/versions/2"):
        assert run("secret", "readers", secret).exit_code == 0
    with_mesh(monkeypatch, made)
    assert run("secret", "readers", "db").exit_code == 0
    with_mesh(monkeypatch, made, may_list=False)
    assert run("secret", "readers", "db/versions/1").exit_code == 0
    with_mesh(monkeypatch, may_list=False)
    assert run("secret", "readers", "db").exit_code == Status.REFUSED


@pytest.mark.parametrize("words", [["--since", "500d"], ["--resource", "secrets/db"], ["--resource", "db"]])
def test_what_is_in_the_archive_alone_is_told_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with_mesh(monkeypatch, event(1, 80))
    told = run("audit", "events", *words)
    assert (told.exit_code, told.stdout) == (0, "")
    assert "--archive lists them too" in told.stderr
    assert json.loads(run("audit", "events", *words, "--json").stdout) == {"events": [], "older_in_archive": True}
    whole = run("audit", "events", *words, "--archive")
    assert ("--archive" in whole.stderr, len(whole.stdout.splitlines())) == (False, 2)


def test_a_period_that_reaches_into_the_archive_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mesh(monkeypatch, event(1, 80), event(2, 1))
    assert "--archive" in run("audit", "events", "--since", "500d").stderr
    for words in (["--since", "7d"], [], ["--since", "500d", "--limit", "1"], ["--since", "500d", "--archive"]):
        assert run("audit", "events", *words).stderr == "", words
