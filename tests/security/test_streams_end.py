"""No stream, and no connection, is of use to anybody after the session or the certificate behind it has ended; clients
go on with the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from deploy.dev.certificates import CertificateFiles
from deploy.dev.channels import Trust
from deploy.dev.mesh import Listener, Mesh
from deploy.dev.topology import spiffe_id
from strongroom import CertificateSession, Client
from strongroom.errors import from_rpc_error
from tests.support import access
from tests.support.clients import client_by, client_of, reason_of, until
from tests.support.every_method import METHODS, Names, request_of

STREAMS = [name for name, (_, method) in METHODS.items() if method.server_streaming]
LIFE = timedelta(seconds=6)
PATIENCE = 30.0

Metadata = tuple[tuple[str, str], ...]


def call(channel: grpc.Channel, method_name: str, account: str, metadata: Metadata) -> Any:
    """Begins any call, of a stream or not."""
    _, method = METHODS[method_name]
    message = json_format.ParseDict(
        request_of(method_name, Names(account, "g", "k", "e", "")), GetMessageClass(method.input_type)()
    )
    made = channel.unary_stream(
        f"/{method.containing_service.full_name}/{method.name}",
        type(message).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )
    return made(message, timeout=PATIENCE, metadata=metadata)


def why_it_ended(calling: Any) -> str:
    """The reason, once it has ended."""
    try:
        for _ in calling:
            pass
    except grpc.RpcError as error:
        return from_rpc_error(error, "service").reason
    return "OK"


def require_an_end(
    mesh: Mesh, account: str, listener: Listener, identity: CertificateFiles | Trust, metadata: Metadata = ()
) -> None:
    """Opens every stream that there is, and finds all of them ended, and their connections of no use, by the end of
    what they were opened with."""
    with ExitStack() as stack:
        channels: Mapping[str, grpc.Channel] = {
            name: stack.enter_context(mesh.channel(METHODS[name][0], listener, identity)) for name in STREAMS
        }
        streams = {name: call(channel, name, account, metadata) for name, channel in channels.items()}
        # Each has begun: it was permitted.
        for stream in streams.values():
            assert list(stream.initial_metadata()) is not None
        assert {name: why_it_ended(stream) for name, stream in streams.items()} == dict.fromkeys(
            STREAMS, "TOKEN_EXPIRED"
        )
        again = {name: why_it_ended(call(channel, name, account, metadata)) for name, channel in channels.items()}
        assert again == dict.fromkeys(STREAMS, "TOKEN_EXPIRED")
        one = why_it_ended(call(channels["AuditService.StreamEvents"], "AuditService.LookupEvents", account, metadata))
        assert one == "TOKEN_EXPIRED"


@pytest.fixture(autouse=True)
def _watched(tenant: Client) -> None:
    tenant.keys.aliases.create("strongroom-secrets", tenant.keys.create("of-secrets").name)
    tenant.secrets.create("present", b"v")


def test_streams_end_with_the_session(tenant: Client, mesh: Mesh, name: str) -> None:
    token = tenant.access.sessions.create(duration_seconds=int(LIFE.total_seconds())).token
    require_an_end(mesh, name, "public", mesh.trust, (("authorization", f"Bearer {token}"),))


def test_streams_and_calls_end_with_the_certificate(tenant: Client, mesh: Mesh, name: str) -> None:
    lasting, short = f"user/{name}-lasting", f"user/{name}-short"
    tenant.access.principals.create("users/short", spiffe_ids=[spiffe_id(lasting), spiffe_id(short)])
    tenant.access.policies.create("of-short", access.EVERYTHING, attached_to=["users/short"])
    with client_of(mesh, lasting, name) as bound:
        until(lambda: reason_of(bound.access.accounts.get) == "", 5.0)
        until(lambda: reason_of(lambda: bound.audit.events.list(limit=1)) == "", 5.0)
    require_an_end(mesh, name, "certificate", mesh.authority.issue(short, lifetime=LIFE))


def test_clients_follow_over_the_ends_of_sessions_without_gap_or_repeat(tenant: Client, mesh: Mesh, name: str) -> None:
    key = tenant.keys.create("followed").name
    identity = mesh.authority.issue(f"user/{name}")
    short = CertificateSession(identity.certificate, identity.key, duration_seconds=2)
    began = datetime.now(UTC)
    made: list[str] = []
    versions: list[int] = []
    with ThreadPoolExecutor(2) as readers, client_by(mesh, short, account=name) as client:
        events = client.audit.events.stream(resource=key, action="crypto:Encrypt", since=began - LIFE)
        told = readers.submit(_read, events, lambda one: "last" in one.event.encryption_context)
        watch = client.secrets.watch(["present"])
        heard = readers.submit(_read, watch, lambda change: change.change == "DELETED")
        while datetime.now(UTC) - began < LIFE:
            made.append(tenant.encrypt(key, b"x").event_id)
            put = tenant.secrets.put_value("present", str(len(versions)).encode()).name
            versions.append(int(put.rpartition("/")[2]))
        made.append(tenant.encrypt(key, b"x", {"last": "yes"}).event_id)
        tenant.secrets.delete("present")
        assert [one.event.id for one in told.result(PATIENCE)] == made
        changes = heard.result(PATIENCE)
    assert [change.version for change in changes if change.change == "STAGE"] == versions
    assert [change.change for change in changes].count("STATE") == 1


def _read(messages: Iterable[Any], is_last: Callable[[Any], bool]) -> list[Any]:
    read = []
    for message in messages:
        read.append(message)
        if is_last(message):
            break
    return read
