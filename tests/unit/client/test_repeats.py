"""What nobody answered may have been done: the client makes a call again only where that comes to the same, so that it
is never told "not there" of what it has done itself."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

import strongroom
from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from deploy.dev.topology import HOST, free_port
from strongroom import Client, ClientCertificate, StrongroomError, repeats
from strongroom.transport import Endpoint

ROOT = Path(__file__).parents[3]
# Services that only the mesh calls, and the one that others implement.
_INTERNAL = re.compile(r"Record|Material|EventLog|Sealing|ClientKeyRotation|Rotator|Health|RootKeyVersions")
# They change nothing, or nothing that outlives them.
_HARMLESS = re.compile(
    r"Get|List|Lookup|Simulate|Validate|Encrypt|Decrypt|ReEncrypt|Generate|Export|Asymmetric|Sign|Verify|Derive"
    r"|Encapsulate|Decapsulate|Batch|CreateSession|AssumeRole|NarrowSession|Stream|Watch"
)
SAME: Mapping[str, str] = {
    "DisableAccount": "it is disabled already",
    "DisableKey": "it is disabled already",
    "DisableKeyVersion": "it is disabled already",
    "DisablePrincipal": "it is disabled already",
    "DisableSecretVersion": "it is disabled already",
    "EnableAccount": "it is enabled already",
    "EnableKey": "it is enabled already",
    "EnableKeyVersion": "it is enabled already",
    "EnablePrincipal": "it is enabled already",
    "EnableSecretVersion": "it is enabled already",
    "ImportKeyMaterial": "the same material may be imported again",
    "ReportUsage": "it counts, and changes nothing",
    "SetDeletionProtection": "it is set already",
    "TagKey": "it has the tags already",
    "UntagKey": "it has them no longer",
}


def public_methods() -> Iterator[MethodDescriptor]:
    """Every method that clients call."""
    for module in pkgutil.walk_packages(strongroom.__path__, "strongroom."):
        if module.name.endswith("_service_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                if not _INTERNAL.search(service.name):
                    yield from service.methods


METHODS = {method.full_name: method for method in public_methods()}
ONCE = [name for name, method in METHODS.items() if not repeats.is_repeatable(GetMessageClass(method.input_type)())]


def test_every_method_is_made_again_or_not_for_a_reason() -> None:
    assert len(METHODS) > 100
    for name, method in METHODS.items():
        has_id = "request_id" in method.input_type.fields_by_name
        reasons = [has_id, bool(_HARMLESS.match(method.name)), method.name in SAME, name in ONCE]
        assert sum(reasons) == 1, (name, reasons)
    assert {method.name for method in METHODS.values()} >= set(SAME)


def test_grpc_is_told_of_the_same_methods_and_they_exist() -> None:
    once, others = repeats.RETRIES["methodConfig"]
    assert sorted(f"{one['service']}.{one['method']}" for one in once["name"]) == sorted(ONCE)
    assert set(once) == {"name"}
    assert others["name"] == [{}]


def test_clients_in_other_languages_make_none_of_them_twice() -> None:
    """They know what is safe by the names of methods."""
    go = (ROOT / "clients/go/strongroom/invoke.go").read_text()
    prefixes = re.findall(r'"(\w+)"', re.findall(r"safePrefixes = \[\]string\{(.*?)\n\}", go, re.DOTALL)[0])
    node = re.findall(r"SAFE =\s*/\^(\(.*?\))/", (ROOT / "clients/node/src/calls.ts").read_text())[0]
    java = re.findall(
        r"name\.(?:startsWith|equals)\(\"(\w+)\"",
        (ROOT / "clients/java/src/main/java/io/strongroom/Endpoint.java").read_text(),
    )
    assert min(len(prefixes), node.count("|"), len(java)) > 2
    for name in ONCE:
        method = METHODS[name].name
        assert not method.startswith((*prefixes, *java)), name
        assert not re.match(node, method), name


@contextmanager
def serving(authority: DevelopmentAuthority, script: dict[str, list[str]], address: str = f"{HOST}:0") -> Iterator[str]:
    """A service that answers every method, and first what `script` has for each: `lost` does it and is gone before it
    answers, `draining` has not begun, `may have` says that it is away after it began. Yields its address."""

    def handle(method: MethodDescriptor) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Message:
            del request
            todo = script.setdefault(method.full_name, [])
            said = todo.pop(0) if todo else "done"
            DONE.append((method.full_name, said))
            if said == "lost":
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            if said in ("draining", "may have"):
                status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="no")
                status.details.add().Pack(error_details_pb2.ErrorInfo(reason="SHUTTING_DOWN", domain="strongroom"))
                details = ("grpc-status-details-bin", status.SerializeToString())
                final = (("grpc-retry-pushback-ms", "-1"),) if said == "may have" else ()
                context.set_trailing_metadata((details, *final))
                context.abort(grpc.StatusCode.UNAVAILABLE, "no")
            return GetMessageClass(method.output_type)()

        reads = GetMessageClass(method.input_type).FromString
        return grpc.unary_unary_rpc_method_handler(answer, reads, lambda message: message.SerializeToString())

    files = authority.issue("service/keystore")
    credentials = grpc.ssl_server_credentials(
        [(files.key.read_bytes(), files.certificate.read_bytes())], files.trust.read_bytes(), True
    )
    server = grpc.server(ThreadPoolExecutor(4))
    for service in {
        method.containing_service.full_name: method.containing_service for method in METHODS.values()
    }.values():
        handlers = {method.name: handle(method) for method in service.methods if not method.server_streaming}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    port = server.add_secure_port(address, credentials)
    server.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        server.stop(None).wait()


DONE: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


@pytest.fixture
def authority(tmp_path: Path) -> DevelopmentAuthority:
    return DevelopmentAuthority(tmp_path)


def client_at(caller: CertificateFiles, addresses: str) -> Client:
    return Client(
        {"keystore": addresses}, ClientCertificate(caller.certificate, caller.key), trust=caller.trust, account="main"
    )


def call(client: Client, method: str, timeout: float = 5.0) -> None:
    """Makes a call of any method."""
    described = METHODS[method]
    path = f"/{described.containing_service.full_name}/{described.name}"

    def stub(channel: grpc.Channel) -> Any:
        return channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )

    endpoint: Endpoint[Any] = client._transport.endpoint("keystore", stub)
    request = GetMessageClass(described.input_type)()
    if hasattr(request, "request_id"):
        request.request_id = "00000000-0000-4000-8000-000000000001"
    endpoint.call(endpoint.stub, request, timeout)


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_nobody_answered_is_made_again_where_that_comes_to_the_same(
    authority: DevelopmentAuthority, replicas: int
) -> None:
    others = [name for name in METHODS if name.endswith((".GetKey", ".CreateKey", ".DisableKey", ".Encrypt"))]
    with ExitStack() as stack:
        address = stack.enter_context(serving(authority, {name: ["lost"] for name in METHODS}))
        client = stack.enter_context(client_at(authority.issue("user/admin"), ",".join([address] * replicas)))
        for name in others:
            call(client, name)
        for name in ONCE:
            with pytest.raises(StrongroomError) as refused:
                call(client, name)
            assert (name, refused.value.reason) == (name, "UNREACHABLE")
    assert sorted(DONE) == sorted(
        [*((name, said) for name in others for said in ("lost", "done")), *((name, "lost") for name in ONCE)]
    )


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_was_not_begun_is_made_again_in_any_case(
    authority: DevelopmentAuthority, replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_PAUSES", (0.01,))
    with ExitStack() as stack:
        address = stack.enter_context(serving(authority, {name: ["draining"] for name in ONCE}))
        client = stack.enter_context(client_at(authority.issue("user/admin"), ",".join([address] * replicas)))
        for name in ONCE:
            call(client, name)
    assert sorted(DONE) == sorted([(name, said) for name in ONCE for said in ("draining", "done")])


def test_what_a_service_may_have_begun_is_not(authority: DevelopmentAuthority) -> None:
    with serving(authority, {name: ["may have"] for name in ONCE}) as address, ExitStack() as stack:
        client = stack.enter_context(client_at(authority.issue("user/admin"), address))
        for name in ONCE[:3]:
            with pytest.raises(StrongroomError):
                call(client, name)
    assert [said for _, said in DONE] == ["may have"] * 3


def test_it_is_sent_once_there_is_a_connection_and_to_who_is_there(authority: DevelopmentAuthority) -> None:
    nobody = f"{HOST}:{free_port()}"
    caller = authority.issue("user/admin")
    with serving(authority, {}) as address, client_at(caller, f"{nobody},{address}") as client:
        call(client, ONCE[0])
        call(client, ONCE[1])
    assert [said for _, said in DONE] == ["done"] * 2
    with client_at(caller, nobody) as client, pytest.raises(StrongroomError) as refused:
        call(client, ONCE[0])
    assert refused.value.reason == "UNREACHABLE"


def test_the_table_can_be_sent() -> None:
    assert json.loads(json.dumps(repeats.RETRIES)) == repeats.RETRIES
