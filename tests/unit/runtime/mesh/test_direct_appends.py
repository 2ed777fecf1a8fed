"""Events that native code appends: what goes well goes directly, and whatever does not ends by the rules for all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.certificates import DevelopmentAuthority
from services.runtime import extension
from services.runtime.audit_client import AuditClient
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest
from tests.support.appending import AppendingMesh, Calls
from tests.support.clients import until
from tests.support.cutting_proxy import CuttingProxy

pytestmark = pytest.mark.skipif(not extension.is_built(), reason="the native listener is not built (make native)")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[AppendingMesh]:
    mesh = AppendingMesh(DevelopmentAuthority(tmp_path / "authority"))
    yield mesh
    mesh.log.gate.set()


def opened(client: AuditClient) -> Calls:
    until(lambda: client.directly, 20)
    return Calls(client)


def test_events_go_directly_in_groups_and_their_calls_are_told_once(mesh: AppendingMesh) -> None:
    port = mesh.port()
    with mesh.serving(port), mesh.client(port) as client:
        calls = opened(client)
        mesh.log.gate.clear()
        ids = [*calls.begin(), *calls.begin(40), *calls.begin(payer="other")]
        assert not any(calls.told.values())
        mesh.log.gate.set()
        until(calls.all_told, 20)
        assert calls.told == {one: [""] for one in ids}
        assert mesh.log.kept == set(ids)
        assert len(mesh.log.groups) < 6
        # One connection for all of them: that of the direct way.
        assert len(set(mesh.log.callers)) == 1
        assert not any(group.resend for group in mesh.log.groups)


@pytest.mark.parametrize("reason", [Reason.FIELD_INVALID, Reason.FIELD_TOO_LARGE, Reason.INTERNAL])
def test_an_event_that_is_refused_costs_its_own_call_alone(mesh: AppendingMesh, reason: Reason) -> None:
    port = mesh.port()
    bad: set[str] = set()
    mesh.log.fails = lambda request: (
        StrongroomError(reason, "no") if bad.intersection(one.id for one in request.events) else None
    )
    with mesh.serving(port), mesh.client(port) as client:
        calls = opened(client)
        mesh.log.gate.clear()
        ids = [*calls.begin(2), *calls.begin(20)]
        bad.update(ids[7:9])
        mesh.log.gate.set()
        until(calls.all_told, 20)
        assert {one: told for one, told in calls.told.items() if told != [""]} == {
            one: ["EVENT_REFUSED"] for one in ids[7:9]
        }
        assert mesh.log.kept == set(ids) - bad
        assert client.directly
        assert client.failure is None


def test_a_log_that_says_why_it_cannot_be_written_says_it_to_every_call(mesh: AppendingMesh) -> None:
    port = mesh.port()
    with mesh.serving(port), mesh.client(port) as client:
        calls = opened(client)
        mesh.log.fails = lambda _request: StrongroomError(Reason.AUDIT_STORAGE_FULL, "full")
        calls.begin(3)
        until(calls.all_told, 20)
        assert {reason for told in calls.told.values() for reason in told} == {"AUDIT_STORAGE_FULL"}
        assert not client.directly
        began = time.monotonic()
        calls.begin()
        assert calls.all_told()
        assert time.monotonic() - began < 5
        mesh.log.fails = lambda _request: None
        until(lambda: client.directly, 20)
        (healed,) = calls.begin()
        until(calls.all_told, 20)
        assert calls.told[healed] == [""]


def test_a_log_that_hangs_fails_calls_at_their_deadline(mesh: AppendingMesh) -> None:
    port = mesh.port()
    with mesh.serving(port), mesh.client(port, deadline_seconds=1.0) as client:
        calls = opened(client)
        mesh.log.gate.clear()
        began = time.monotonic()
        calls.begin(5)
        until(calls.all_told, 20)
        assert time.monotonic() - began >= 0.9
        assert {reason for told in calls.told.values() for reason in told} == {"AUDIT_TIMEOUT"}
        assert not client.directly


def test_a_call_whose_time_is_over_does_not_end_that_of_a_later_one(mesh: AppendingMesh) -> None:
    port = mesh.port()
    with mesh.serving(port), mesh.client(port, deadline_seconds=3.0) as client:
        calls = opened(client)
        mesh.log.gate.clear()
        calls.begin(3)
        time.sleep(1.0)
        (later,) = calls.begin()
        until(lambda: sum(told == ["AUDIT_TIMEOUT"] for told in calls.told.values()) == 3, 20)
        mesh.log.gate.set()
        until(calls.all_told, 20)
        assert calls.told[later] == [""]


@pytest.mark.parametrize("let_through", [True, False])
def test_a_connection_that_is_cut_loses_no_event_and_tells_no_call_twice(
    mesh: AppendingMesh, let_through: bool
) -> None:
    target, port = mesh.port(), mesh.port()
    with mesh.serving(target), CuttingProxy(port, target) as proxy, mesh.client(port) as client:
        calls = opened(client)
        proxy.cut_at(1, let_through=let_through)
        ids = calls.begin(30)
        until(calls.all_told, 20)
        assert proxy.cuts == 1
        assert calls.told == {one: [""] for one in ids}
        assert mesh.log.kept == set(ids)
        # And it goes directly again.
        until(lambda: client.directly, 20)


def test_the_writer_of_the_log_is_followed_to_another_address(mesh: AppendingMesh) -> None:
    before, after = mesh.port(), mesh.port()
    with mesh.client(before, after) as client:
        with mesh.serving(before):
            calls = opened(client)
            calls.begin(5)
            until(calls.all_told, 20)

            def moved(request: AppendRequest) -> StrongroomError | None:
                return StrongroomError(Reason.AUDIT_UNREACHABLE, "another process writes") if request.events else None

            mesh.log.fails = moved
            ids = calls.begin(5)
            until(lambda: not client.directly, 20)
        mesh.log.fails = lambda _request: None
        with mesh.serving(after):
            until(calls.all_told, 20)
            assert {calls.told[one][0] for one in ids} == {""}
            until(lambda: client.directly, 20)
            calls.begin(5)
            until(calls.all_told, 20)


def test_a_log_whose_certificate_is_not_the_authoritys_gets_nothing(mesh: AppendingMesh, tmp_path: Path) -> None:
    port = mesh.port()
    impostor = AppendingMesh(DevelopmentAuthority(tmp_path / "other"))
    with impostor.serving(port), mesh.client(port, deadline_seconds=1.0) as client:
        calls = Calls(client)
        calls.begin(3)
        until(calls.all_told, 20)
        assert {reason for told in calls.told.values() for reason in told} <= {"AUDIT_UNREACHABLE", "AUDIT_TIMEOUT"}
        assert not client.directly
        assert impostor.log.kept == set()


def test_certificates_are_read_again_when_they_change(mesh: AppendingMesh) -> None:
    port = mesh.port()
    with mesh.serving(port), mesh.client(port) as client:
        calls = opened(client)
        calls.begin()
        until(calls.all_told, 20)
        files = mesh.files()
        files.certificate.unlink()
        mesh.authority.issue("service/crypto")

        def is_on_another_connection() -> bool:
            calls.begin()
            until(calls.all_told, 20)
            return len(set(mesh.log.callers)) == 2

        until(is_on_another_connection, 20)
        assert set().union(*calls.told.values()) == {""}


def test_what_waits_is_sent_before_the_end(mesh: AppendingMesh) -> None:
    port = mesh.port()
    with mesh.serving(port), mesh.client(port) as client:
        calls = opened(client)
        ids = calls.begin(200)
        client.stop()
        assert calls.told == {one: [""] for one in ids}


def test_a_way_that_never_opens_is_told_of_once(mesh: AppendingMesh, caplog: pytest.LogCaptureFixture) -> None:
    with mesh.client(mesh.port(), deadline_seconds=1.0) as client:
        for _ in range(20):
            client._open_directly()
    assert [record.message for record in caplog.records].count(
        "events reach the audit log by the slower way alone"
    ) == 1
