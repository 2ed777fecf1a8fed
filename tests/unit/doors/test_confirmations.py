"""What a door answers without the mesh is for callers that the mesh still knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from services.doors.listening.exchange import Head, HttpError
from services.doors.mesh.confirmations import Confirmations
from services.doors.mesh.sessions import Caller
from services.doors.settings import Mount
from services.doors.vault.auth import Auth
from services.doors.vault.door import Engine, VaultDoor
from services.doors.vault.kv.store import KvSecrets
from services.doors.vault.kv.v2 import KvVersion2
from services.doors.vault.system import System
from services.doors.vault.transit.engine import Transit
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.session_service_pb2 import CallerIdentity
from tests.support.clocks import StillClock
from tests.unit.doors.meshes import CALLER, AnsweringMesh, asked

CLOCK = StillClock(1_800_000_000_000_000)
MOUNTS = {"secret": Mount(type="kv-v2"), "transit": Mount(type="transit")}


def engine(kind: str, mesh: AnsweringMesh) -> Engine:
    if kind == "sys":
        return System(mesh.mesh, cast(Any, None), MOUNTS, cast(Any, None), CLOCK)
    if kind == "auth":
        return Auth(mesh.mesh, cast(Any, None), cast(Any, None), CLOCK)
    return Transit(mesh.mesh) if kind == "transit" else KvVersion2(KvSecrets(mesh.mesh, ""))


@pytest.mark.parametrize(
    ("kind", "method", "path"),
    [
        ("auth", "POST", "token/renew-self"),
        ("sys", "GET", "mounts"),
        ("sys", "GET", "mounts/secret"),
        ("sys", "GET", "mounts/secret/tune"),
        ("sys", "GET", "auth"),
        ("sys", "GET", "internal/ui/mounts"),
        ("sys", "GET", "internal/ui/mounts/secret/a"),
        ("transit", "POST", "hash/sha2-256"),
        ("kv", "GET", "config"),
    ],
)
def test_a_revoked_token_is_answered_nothing(kind: str, method: str, path: str) -> None:
    body = {"input": "YQ=="} if method == "POST" else None
    known = AnsweringMesh({"GetCallerIdentity": CallerIdentity()})
    assert asked(engine(kind, known), path, method, body)[0] == 200
    status, said = asked(engine(kind, AnsweringMesh({"GetCallerIdentity": Reason.TOKEN_INVALID})), path, method, body)
    assert (status, said["errors"][0]) == (403, "permission denied")


def test_nor_is_its_large_body_read() -> None:
    mesh = AnsweringMesh({"GetCallerIdentity": Reason.TOKEN_INVALID})
    callers = cast(Any, type("Known", (), {"of": lambda *_: CALLER}))
    none = cast(Any, None)
    door = VaultDoor(callers, none, none, none, {}, mesh.mesh, none)
    with pytest.raises(HttpError) as caught:
        door.admit(Head("POST", ("v1", "x"), False, {}, {}, "10.0.0.1"))
    assert caught.value.status == 403


def test_the_mesh_is_asked_of_each_caller_twice_a_second_at_most() -> None:
    now, identified = [5.0], []

    def identify(caller: Caller) -> None:
        identified.append(caller.session.token)
        if caller.session.token == "gone":  # a test's
            raise StrongroomError(Reason.TOKEN_INVALID, "it is over")

    confirmations = Confirmations(identify, lambda: now[0])
    for _ in range(20):
        confirmations.require(CALLER)
    confirmations.require(replace(CALLER, session=replace(CALLER.session, token="other")))
    assert identified == ["t", "other"]
    now[0] += 0.6
    confirmations.require(CALLER)
    assert identified == ["t", "other", "t"]
    gone = replace(CALLER, session=replace(CALLER.session, token="gone"))
    for _ in range(2):
        with pytest.raises(StrongroomError):
            confirmations.require(gone)
    assert identified[3:] == ["gone", "gone"]
