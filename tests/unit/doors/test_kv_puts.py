"""A write to a path is one write, also when its client repeats what was answered 503."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.doors.listening.exchange import HttpError
from services.doors.mesh.calls import Mesh
from services.doors.mesh.repeats import Repeats
from services.doors.mesh.sessions import Caller, Session
from services.doors.vault.kv.store import KvSecrets
from services.runtime.errors import Reason, StrongroomError
from strongroom.secrets.v1.secret_pb2 import Secret, SecretVersion

CALLER = Caller(Session("a.b.c", "accounts/shop/users/u", "shop", 0), "10.0.0.1")
NAME = "accounts/shop/secrets/s"


class Secrets:
    """A mesh whose one secret is created and put to, and whose answers may be lost; it knows ids again as the service
    does."""

    def __init__(self) -> None:
        self.versions: list[bytes] = []
        self.loses: set[str] = set()
        self._made: dict[str, int] = {}
        self._repeats = Repeats(0.1)

    def is_undecided(self, caller: Caller, request: Any) -> bool:
        return self._repeats.is_left(caller.session.principal, request)

    def ask(self, caller: Caller, method: str, request: Any) -> Any:
        return self._repeats.answer(caller.session.principal, request, lambda asked, _: self._answer(method, asked))

    def _answer(self, method: str, request: Any) -> Any:
        if request.request_id not in self._made:
            if method == "PutSecretValue" and not self.versions:
                raise StrongroomError(Reason.SECRET_NOT_FOUND, "none")
            expects = method == "PutSecretValue" and request.HasField("current_version")
            if expects and request.current_version != len(self.versions):
                raise StrongroomError(Reason.STAGE_CONFLICT, "another")
            if method == "CreateSecret" and self.versions:
                raise StrongroomError(Reason.ALREADY_EXISTS, "there")
            self.versions.append(request.value)
            self._made[request.request_id] = len(self.versions)
        if method in self.loses:
            raise StrongroomError(Reason.AUDIT_PENDING, "it stands")
        number = self._made[request.request_id]
        if method == "CreateSecret":
            return Secret(name=NAME, stages={"Current": number})
        return SecretVersion(name=f"{NAME}/versions/{number}")


@pytest.mark.parametrize("current", [None, 0])
def test_a_new_path_that_was_written_and_not_answered_has_one_version(current: int | None) -> None:
    mesh = Secrets()
    kv = KvSecrets(cast(Mesh, mesh), "")
    mesh.loses = {"CreateSecret"}
    for _ in range(2):
        with pytest.raises(StrongroomError, match="AUDIT_PENDING"):
            kv.put(CALLER, NAME, b"one", current)
    mesh.loses = set()
    assert kv.put(CALLER, NAME, b"one", current).name == f"{NAME}/versions/1"
    assert mesh.versions == [b"one"]


@pytest.mark.parametrize("current", [None, 1])
def test_so_has_one_that_was_there(current: int | None) -> None:
    mesh = Secrets()
    kv = KvSecrets(cast(Mesh, mesh), "")
    kv.put(CALLER, NAME, b"one", 0)
    mesh.loses = {"PutSecretValue"}
    with pytest.raises(StrongroomError, match="AUDIT_PENDING"):
        kv.put(CALLER, NAME, b"two", current)
    mesh.loses = set()
    assert kv.put(CALLER, NAME, b"two", current).name == f"{NAME}/versions/2"
    assert mesh.versions == [b"one", b"two"]


def test_another_value_for_a_path_that_may_be_there_is_another_version() -> None:
    mesh = Secrets()
    kv = KvSecrets(cast(Mesh, mesh), "")
    mesh.loses = {"CreateSecret"}
    with pytest.raises(StrongroomError, match="AUDIT_PENDING"):
        kv.put(CALLER, NAME, b"one", None)
    mesh.loses = set()
    assert kv.put(CALLER, NAME, b"two", None).name == f"{NAME}/versions/2"
    with pytest.raises(HttpError, match="did not match"):
        kv.put(CALLER, NAME, b"three", 0)
