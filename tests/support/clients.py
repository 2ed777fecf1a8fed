"""Clients of meshes under test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Listener, Mesh
from deploy.dev.topology import ADMINISTRATOR, SERVICES
from strongroom import AssumedRole, CertificateSession, Client, ClientCertificate, StrongroomError
from strongroom.credentials import Credentials


def client_of(
    mesh: Mesh,
    identity: str = ADMINISTRATOR,
    account: str = ACCOUNT,
    *,
    trace_directory: Path | None = None,
    timeout: float = 10.0,
    addresses: Mapping[str, str] | None = None,
    coalesce: bool = False,
) -> Client:
    """Whoever `identity` (`user/admin`) is bound to, the account's administrator by default, by certificate; with a
    trace directory every trace is recorded; `addresses` are of services to reach at another replica."""
    return by_certificate(
        mesh,
        identity,
        account,
        addresses=addresses,
        timeout=timeout,
        sample_ratio=1.0 if trace_directory else 0.0,
        trace_directory=trace_directory,
        coalesce=coalesce,
    )


def client_by(mesh: Mesh, credentials: Credentials, *, account: str = ACCOUNT) -> Client:
    """Whoever `credentials` prove: over the public listeners, or those for client certificates where they are one."""
    source = credentials
    while isinstance(source, AssumedRole):
        source = source.source
    listener: Listener = "certificate" if isinstance(source, ClientCertificate | CertificateSession) else "public"
    return Client(
        {service: mesh.address(service, listener) for service in SERVICES},
        credentials,
        trust=mesh.authority.trust,
        account=account,
    )


def refusal(work: Callable[[], object]) -> StrongroomError:
    """The error that `work` raises; fails the test when it raises none."""
    with pytest.raises(StrongroomError) as caught:
        work()
    return caught.value


def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Returns once `holds` does; fails the test when that takes longer."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        time.sleep(0.05)


def reason_of(work: Callable[[], object]) -> str:
    """Why `work` fails, or nothing when it does not."""
    try:
        work()
    except StrongroomError as error:
        return error.reason
    return ""
