"""TLS to targets: which server is believed, and that a login is sent to no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from deploy.dev.topology import HOST
from services.runtime.errors import Reason, StrongroomError
from services.secrets.life.lifecycle import SecretUpdate
from strongroom.secrets.v1 import target_pb2 as t
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from tests.support.rotation import servers
from tests.support.rotation.lab import Lab, person
from tests.support.rotation.servers import TlsServer
from tests.support.rotation.subjects import Mysql, Postgresql, RedisAcl

Target = Postgresql | Mysql | RedisAcl


@pytest.fixture(params=["postgresql", "mysql", "acl"])
def tls_server(request: pytest.FixtureRequest) -> tuple[type[Target], TlsServer]:
    kinds: dict[str, type[Target]] = {"postgresql": Postgresql, "mysql": Mysql, "acl": RedisAcl}
    return kinds[request.param], request.getfixturevalue(f"{request.param}_tls_server")


def at(server: TlsServer, *, host: str = HOST, tls: int = t.TARGET_TLS_UNSPECIFIED, trust: str = "") -> t.TargetAddress:
    """By default as a target that says nothing of TLS but whom to trust."""
    return t.TargetAddress(
        host=host,
        port=server.port,
        tls=tls,  # type: ignore[arg-type]  # protobuf's stubs have a type for each enum
        ca_pem=trust or server.trust,
        timeout=Duration(seconds=5),
    )


def refused(subject: Target, lab: Lab, secret_id: str) -> StrongroomError:
    with pytest.raises(StrongroomError) as caught:
        subject.create(lab, secret_id)
    return caught.value


@pytest.mark.parametrize(
    ("host", "tls"),
    [
        (HOST, t.TARGET_TLS_UNSPECIFIED),
        (HOST, t.TARGET_TLS_VERIFY_FULL),
        # The certificate is for the address, and not for this name.
        ("localhost", t.TARGET_TLS_VERIFY_CA),
    ],
)
def test_a_login_rotates_over_tls_where_the_server_proves_who_it_is(
    lab: Lab, tls_server: tuple[type[Target], TlsServer], secret_id: str, host: str, tls: int
) -> None:
    kind, server = tls_server
    subject = kind(server.server, at=at(server, host=host, tls=tls))
    subject.create(lab, secret_id)
    first = lab.value(secret_id)

    lab.rotate(secret_id)
    lab.work_until_idle()

    assert lab.rotation(secret_id).state == ROTATION_STATE_SUCCEEDED
    assert subject.accepts(lab.value(secret_id))
    assert not subject.accepts(first)
    assert json.loads(lab.value(secret_id))["host"] == host


@pytest.mark.parametrize("tls", [t.TARGET_TLS_VERIFY_FULL, t.TARGET_TLS_VERIFY_CA])
def test_a_server_of_another_authority_is_told_nothing(
    lab: Lab, tls_server: tuple[type[Target], TlsServer], secret_id: str, tmp_path: Path, tls: int
) -> None:
    kind, server = tls_server
    other = servers.server_certificate(tmp_path).trust.read_text()
    error = refused(kind(server.server, at=at(server, tls=tls, trust=other)), lab, secret_id)
    assert error.reason is Reason.TARGET_UNREACHABLE
    assert "certificate" in error.message


def test_without_an_authority_of_its_own_the_machines_are_trusted_and_no_other(
    lab: Lab, tls_server: tuple[type[Target], TlsServer], secret_id: str
) -> None:
    kind, server = tls_server
    address = at(server)
    address.ClearField("ca_pem")
    error = refused(kind(server.server, at=address), lab, secret_id)
    assert error.reason is Reason.TARGET_UNREACHABLE
    assert "certificate" in error.message


def test_a_server_by_a_name_that_is_not_its_own_is_told_nothing(
    lab: Lab, tls_server: tuple[type[Target], TlsServer], secret_id: str
) -> None:
    kind, server = tls_server
    error = refused(kind(server.server, at=at(server, host="localhost")), lab, secret_id)
    assert error.reason is Reason.TARGET_UNREACHABLE
    assert "localhost" in error.message


def test_a_server_without_tls_is_told_nothing(lab: Lab, acl_tls_server: TlsServer, secret_id: str) -> None:
    plain = TlsServer(acl_tls_server.server, acl_tls_server.server.port, acl_tls_server.trust)
    error = refused(RedisAcl(plain.server, at=at(plain)), lab, secret_id)
    assert error.reason is Reason.TARGET_UNREACHABLE


def test_a_rotation_under_way_does_not_go_on_at_a_server_that_proves_to_be_another(
    lab: Lab, tls_server: tuple[type[Target], TlsServer], secret_id: str, tmp_path: Path
) -> None:
    kind, server = tls_server
    other = servers.server_certificate(tmp_path).trust.read_text()
    subject = kind(server.server, at=at(server))
    subject.create(lab, secret_id)
    first = lab.value(secret_id)
    target = lab.secret(secret_id).target
    assert target is not None
    getattr(target, target.WhichOneof("kind") or "").address.ca_pem = other
    name = lab.secret(secret_id).name
    lab.lifecycle.update(person("UpdateSecret"), SecretUpdate(name, {"target": target}), check_target=False)

    lab.rotate(secret_id)
    lab.work_until_idle()

    attempts = lab.attempts(secret_id)
    assert [attempt.error_reason for attempt in attempts] == ["", "TARGET_UNREACHABLE"]
    assert subject.accepts(first)
