"""What the door says of itself while the mesh behind it is away."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from services.doors.listening.exchange import Head
from services.doors.mesh.calls import Mesh
from services.doors.mesh.health import MeshHealth
from services.doors.vault.callers import Callers
from services.doors.vault.system import System
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import MeshChannel, Peer
from strongroom.access.v1.session_service_pb2 import CallerIdentity
from tests.support.clocks import StillClock


class Gone:
    """A peer that nobody reaches until it is back."""

    def __init__(self) -> None:
        self.asked = 0

    def method(self, *_of: object) -> Any:
        def check(_request: object) -> CallerIdentity:
            self.asked += 1
            raise StrongroomError(Reason.KEYSTORE_UNREACHABLE, "gone")

        return check


@pytest.fixture
def gone() -> Gone:
    return Gone()


@pytest.fixture
def system(gone: Gone) -> System:
    health = MeshHealth({"any": (cast(Peer, gone), cast(MeshChannel, None))}, lambda: 5.0)
    return System(cast(Mesh, None), health, {}, cast(Callers, None), StillClock(1_800_000_000_000_000))


def asked(system: System, path: str, method: str = "GET", **query: str) -> tuple[int, dict[str, Any]]:
    answer = system.open(Head(method, ("v1", "sys", path), False, query, {}, "10.0.0.1"), (path,))
    assert answer is not None
    return answer.status, json.loads(answer.body)


def test_health_says_sealed_with_the_status_that_is_asked_for(system: System) -> None:
    status, said = asked(system, "health")
    assert (status, said["sealed"], said["initialized"]) == (503, True, True)
    assert asked(system, "health", "HEAD")[0] == 503
    assert asked(system, "health", sealedcode="299")[0] == 299
    for nonsense in ("1000", "99", "abc", ""):
        assert asked(system, "health", sealedcode=nonsense)[0] == 503
    # What is asked for a mesh that serves is not said of one that does not.
    assert asked(system, "health", activecode="200", standbyok="true")[0] == 503


def test_seal_status_is_an_answer_that_says_so(system: System) -> None:
    status, said = asked(system, "seal-status")
    assert (status, said["sealed"]) == (200, True)
    assert asked(system, "leader")[0] == asked(system, "init")[0] == 200


def test_the_mesh_is_asked_once_a_second_however_many_want_to_know(system: System, gone: Gone) -> None:
    for _ in range(20):
        asked(system, "health")
    assert gone.asked == 1
