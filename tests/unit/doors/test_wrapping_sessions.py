"""How often a session is begun so that what a client key wraps lasts as long as it is asked to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from google.protobuf.timestamp_pb2 import Timestamp

from services.doors.listening.exchange import Head, Response
from services.doors.mesh.sessions import Caller, Session, Sessions
from services.doors.vault.wrapping import Wrapping
from strongroom.access.v1 import session_service_pb2
from strongroom.secrets.v1.secret_pb2 import Secret
from tests.support.clocks import StillClock
from tests.unit.doors.meshes import CALLER, AnsweringMesh

NOW_SECONDS, LASTS = 1_800_000_000, 3600
HEAD = Head("GET", ("v1", "x"), False, {}, {}, "10.0.0.1")


def begun(left: int, ttl: int) -> int:
    """How many sessions are begun for an answer that is to be kept so long, where the caller's has so much left."""
    sessions: list[Session] = []

    def begin() -> Session:
        sessions.append(replace(CALLER.session, expires_us=(NOW_SECONDS + LASTS) * 1_000_000))
        return sessions[-1]

    def narrowed(request: session_service_pb2.NarrowSessionRequest) -> session_service_pb2.Session:
        ends = Timestamp(seconds=NOW_SECONDS + request.duration.seconds)
        return session_service_pb2.Session(token="a.b.c", expire_time=ends)

    clock, none = StillClock(NOW_SECONDS * 1_000_000), cast(Any, None)
    mesh = AnsweringMesh({"NarrowSession": narrowed, "CreateSecret": Secret()})
    wrapping = Wrapping(mesh.mesh, Sessions(none, none, clock, LASTS), clock)
    session = replace(CALLER.session, expires_us=(NOW_SECONDS + left) * 1_000_000)
    wrapping.wrap(Caller(session, "10.0.0.1", begin), HEAD, Response(200, b"{}"), ttl)
    return len(sessions)


def test_a_session_is_begun_where_the_one_before_ends_too_soon() -> None:
    assert begun(left=100, ttl=60) == 0
    assert begun(left=100, ttl=300) == 1
    assert begun(left=100, ttl=2 * LASTS) == 1


def test_none_is_begun_at_each_wrapping_that_is_to_last_longer_than_any() -> None:
    assert begun(left=LASTS - 5, ttl=2 * LASTS) == 0
    assert begun(left=LASTS - 5, ttl=LASTS) == 0
