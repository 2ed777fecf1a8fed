"""Audit down, hanging or its disk full: operations fail soon and say why, status keeps answering, then all heals."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import grpc
import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, StrongroomError
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, reason_of, until

LONGEST_SECONDS = 2.0
HEALING_SECONDS = 20.0


def failures(work: Callable[[], object], seconds: float = 4.0) -> list[tuple[StrongroomError, float]]:
    """What `work` fails with, each with how long it took, over `seconds`."""
    found = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            work()
        except StrongroomError as error:
            found.append((error, time.monotonic() - began))
            time.sleep(0.05)
    return found


def audit_component(client: Client) -> tuple[str, str, str]:
    """Crypto's state, and what it says of audit."""
    status = client.mesh.service_status("crypto")
    audit = next(component for component in status.components if component.name == "audit")
    return status.state, audit.state, audit.reason


def fill_disk(mesh: Mesh) -> Callable[[], None]:
    """Makes every write of the audit process fail as a full disk does; answers what ends that."""
    pid = mesh.process("audit").pid
    assert pid is not None
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before) and None


def hang(mesh: Mesh) -> Callable[[], None]:
    mesh.suspend("audit")
    return lambda: mesh.resume("audit")


def end(mesh: Mesh) -> Callable[[], None]:
    mesh.kill("audit")
    return lambda: mesh.launch("audit")


@pytest.mark.parametrize(
    ("break_audit", "reasons"),
    [
        (end, {"AUDIT_UNREACHABLE", "AUDIT_TIMEOUT"}),
        # A connection to a process that hangs is given up after a while, and calls wait for another replica again:
        # where one is made once more meanwhile, its time may be over before it is answered.
        (hang, {"AUDIT_TIMEOUT", "AUDIT_UNREACHABLE", "DEADLINE_EXCEEDED"}),
        (fill_disk, {"AUDIT_STORAGE_FULL", "AUDIT_STORAGE_FAILED"}),
    ],
)
def test_nothing_is_done_that_cannot_be_recorded(
    private_mesh: PrivateMeshes, break_audit: Callable[[Mesh], Callable[[], None]], reasons: set[str]
) -> None:
    mesh = private_mesh()
    with client_of(mesh, timeout=3.0) as client:
        client.keys.create("payments")
        client.encrypt("payments", b"before")

        mend = break_audit(mesh)
        found = failures(lambda: client.encrypt("payments", b"during", timeout=LONGEST_SECONDS))

        assert found
        assert {error.reason for error, _ in found} <= reasons
        answered = [error for error, _ in found if error.reason != "DEADLINE_EXCEEDED"]
        assert {error.code for error in answered} == {grpc.StatusCode.UNAVAILABLE}
        assert max(seconds for _, seconds in found) <= LONGEST_SECONDS + 0.2
        state, audit, reason = audit_component(client)
        assert (state, audit) == ("DOWN", "DOWN")
        assert reason in reasons

        mend()
        until(lambda: not reason_of(lambda: client.encrypt("payments", b"after")), HEALING_SECONDS)
        until(lambda: not reason_of(lambda: list(client.audit.events.list(limit=1))), HEALING_SECONDS)
