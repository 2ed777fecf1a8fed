"""Channels of the mesh repeat what nobody answered, and that may have been done: whatever services and doors ask each
other for carries a request id, or does nothing more when it is made twice."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import strongroom
from deploy.dev.certificates import DevelopmentAuthority
from deploy.dev.topology import TRUST_DOMAIN
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller, Session
from services.doors.settings import MeshAddresses
from services.runtime.config import Tls
from services.runtime.mesh.tls import TlsFiles

SERVICES = Path(__file__).parents[4] / "services"
_HEALTH = "Check"
# They change nothing that outlives them, or nothing at all.
_HARMLESS = (
    *(
        "Get",
        "List",
        "Find",
        "Resolve",
        "Batch",
        "Simulate",
        "Encrypt",
        "Decrypt",
        "ReEncrypt",
        "Generate",
        "Asymmetric",
        "Sign",
    ),
    *("Verify", "Wrap", "Unwrap", "RewrapMaterial", "CreateMaterial", "CreateImportWrappingKey"),
    *("ImportMaterial",),
    # Another session that nobody has: it ends by itself.
    *("CreateSession", "NarrowSession"),
)
AGAIN: Mapping[str, str] = {
    "Append": "an event's id is in the log once",
    "DeleteClientKey": "the door takes a credential that is gone for one that it has ended",
    "DestroyKeyVersion": "it is planned already, and stays planned",
    "DestroySecretVersion": "it is destroyed already",
    "DisableKeyVersion": "it is disabled already",
    "DisableSecretVersion": "it is disabled already",
    "EnableKeyVersion": "it is enabled already",
    "EnableSecretVersion": "it is enabled already",
    "ImportKeyMaterial": "the same material may be imported again",
    "InstallClientKey": "its caller has chosen its name: it is there already",
    "InstallRecordKey": "the first one stays, and is answered",
    "NoteDestroyed": "it is noted already",
    "ReportUsage": "more is reserved than is used",
    "RetireClientKeys": "those that are gone are no failure",
    "RetireRootKeyVersion": "it is gone already",
    "RevokeSession": "the door takes a session that is gone for one that it has ended",
    "RewrapServiceKey": "it answers and stores nothing",
    "RewrapServiceKeys": "what is under the newest root key is left alone",
    "RotateRootKey": "it makes the version after the expected one, once",
    "ScheduleKeyDeletion": "the door looks whether it is planned already",
    "SetDeletionProtection": "it is set already",
    "SetPrimaryKeyVersion": "it is primary already",
    "UpdateRotationPolicy": "it is set already",
    "UpdateSecret": "the same fields; where an etag was given, the door reads the secret and asks again",
}


def methods() -> dict[str, list[MethodDescriptor]]:
    """Every method of the contracts, by its name."""
    found: dict[str, list[MethodDescriptor]] = {}
    for module in pkgutil.walk_packages(strongroom.__path__, "strongroom."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    found.setdefault(method.name, []).append(method)
    return found


def asked_for() -> set[str]:
    """The methods that services and doors call, by the words in their code that name one."""
    known, found = {*methods(), _HEALTH}, set()
    for path in SERVICES.rglob("*.py"):
        tree = ast.parse(path.read_text())
        # A door's own code names no method but to have it called.
        calls = [tree] if "doors" in path.parts else [node for node in ast.walk(tree) if _is_call(node)]
        constants = [one.value for call in calls for one in ast.walk(call) if isinstance(one, ast.Constant)]
        found |= {one for one in constants if isinstance(one, str)} & known
    return found - {_HEALTH}


def _is_call(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("method", "_method")


def test_every_method_that_is_asked_for_can_be_repeated() -> None:
    contract, asked = methods(), asked_for()
    assert len(asked) > 40
    without = {
        name
        for name in asked
        if not all("request_id" in method.input_type.fields_by_name for method in contract[name])
        and not name.startswith(_HARMLESS)
    }
    assert without == set(AGAIN)


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    files = DevelopmentAuthority(tmp_path).issue("service/keystore")
    return TlsFiles(Tls(certificate=files.certificate, key=files.key, trust=files.trust, trust_domain=TRUST_DOMAIN))


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_door_repeats_every_change_by_its_id(tls: TlsFiles, replicas: int) -> None:
    with losing_answers(tls) as (address, asked):
        at = ",".join([address] * replicas)
        mesh = Mesh(MeshAddresses(keystore=at, crypto=at, secrets=at), tls)
        caller = Caller(Session("a.b.c", "accounts/shop/users/u", "shop", 0), "10.0.0.1")
        with_ids = [
            method
            for name, found in methods().items()
            for method in found
            if name in mesh._methods and "request_id" in method.input_type.fields_by_name
        ]
        for method in with_ids:
            mesh.ask(caller, method.name, GetMessageClass(method.input_type)())
        mesh.close()
    assert len(with_ids) > 10
    for method in with_ids:
        first, second = asked[method.full_name]
        assert first == second != ""


@contextmanager
def losing_answers(tls: TlsFiles) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """A service whose process does what it is asked, and is gone before it answers: once for each method. Yields its
    address, and the request ids that came, by method."""
    asked: dict[str, list[str]] = {}

    def handle(method: MethodDescriptor) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Message:
            came = asked.setdefault(method.full_name, [])
            came.append(getattr(request, "request_id", ""))
            if len(came) == 1:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            return GetMessageClass(method.output_type)()

        reads = GetMessageClass(method.input_type).FromString
        return grpc.unary_unary_rpc_method_handler(answer, reads, lambda message: message.SerializeToString())

    server = grpc.server(ThreadPoolExecutor(2))
    for service in {
        method.containing_service.full_name: method for all_ in methods().values() for method in all_
    }.values():
        handlers = {method.name: handle(method) for method in service.containing_service.methods}
        name = service.containing_service.full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(require_client_certificate=True))
    server.start()
    try:
        yield f"127.0.0.1:{port}", asked
    finally:
        server.stop(None)
