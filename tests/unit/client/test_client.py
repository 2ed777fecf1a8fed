"""What an application holds: parts by subject, each loaded when it is first asked for, with every method that there
is."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import ServiceDescriptor

import strongroom.calls
from strongroom.access.v1 import access_service_pb2, session_service_pb2
from strongroom.audit.v1 import audit_service_pb2
from strongroom.calls.base import Part
from strongroom.client import Client
from strongroom.crypto.v1 import crypto_pb2
from strongroom.keystore.v1 import key_service_pb2
from strongroom.runtime.v1 import status_pb2
from strongroom.secrets.v1 import secret_service_pb2

SOURCE = Path(strongroom.calls.__path__[0])
SERVICES: list[ServiceDescriptor] = [
    access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
    crypto_pb2.DESCRIPTOR.services_by_name["CryptoService"],
    key_service_pb2.DESCRIPTOR.services_by_name["KeyService"],
    secret_service_pb2.DESCRIPTOR.services_by_name["SecretService"],
    status_pb2.DESCRIPTOR.services_by_name["StatusService"],
]


def parts() -> Iterator[tuple[str, type]]:
    """The client's parts and theirs, with how each is reached."""

    def below(path: str, owner: type) -> Iterator[tuple[str, type]]:
        yield path, owner
        for name, member in vars(owner).items():
            if isinstance(member, cached_property) and not name.startswith("_"):
                yield from below(f"{path}.{name}", _made_by(owner, member))

    yield from below("client", Client)


def _made_by(owner: type, member: cached_property[Any]) -> type:
    module = inspect.getmodule(owner)
    tree = ast.parse(inspect.getsource(module)) if module else ast.Module([], [])
    wanted = str(member.func.__annotations__["return"])
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and wanted in [name.name for name in node.names]:
            made = vars(__import__(node.module, fromlist=[wanted]))[wanted]
            assert isinstance(made, type)
            return made
    raise AssertionError(f"{owner.__name__} does not say where {wanted} is from")


NOT_CALLS = {"of", "close", "trace", "from_profile", "stream", "watch"}
"""What calls nothing, or has no end."""
PARTS = dict(parts())


def _methods(owner: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(owner).items():
        if not name.startswith("_") and inspect.isfunction(member):
            yield name, member


def test_every_subject_has_its_part() -> None:
    assert {path.removeprefix("client.") for path in PARTS if path != "client"} == {
        *("access", "audit", "data_keys", "asymmetric", "keys", "mesh", "secrets"),
        *("access.accounts", "access.client_keys", "access.grants", "access.oidc_providers", "access.policies"),
        *("access.principals", "access.quotas", "access.sessions"),
        *("audit.events", "audit.logs", "audit.retention"),
        *("keys.aliases", "keys.material", "keys.versions"),
        *("mesh.root_key", "secrets.client_keys", "secrets.rotations", "secrets.versions"),
    }


def test_no_part_inherits_calls() -> None:
    for path, part in PARTS.items():
        assert set(part.__mro__) <= {part, Part, *Part.__mro__}, path
    assert not list(_methods(Part))


def test_every_method_of_the_contracts_can_be_called() -> None:
    sources = [*SOURCE.rglob("*.py"), SOURCE.parent / "client.py"]
    called = {
        node.attr
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Attribute)
        and "stub" in (getattr(node.value, "attr", ""), getattr(node.value, "id", ""))
    }
    assert called == {method.name for service in SERVICES for method in service.methods}


@pytest.mark.parametrize("path", PARTS)
def test_every_method_says_what_it_does_by_itself(path: str) -> None:
    assert PARTS[path].__doc__
    for name, method in _methods(PARTS[path]):
        text = inspect.getdoc(method) or ""
        assert text.endswith("."), f"{path}.{name}"
        for elsewhere in ("See ", "The same", "likewise"):
            assert elsewhere not in text, f"{path}.{name}"
        assert "timeout" in inspect.signature(method).parameters or name in NOT_CALLS, f"{path}.{name}"


def test_a_client_loads_only_what_is_asked_for() -> None:
    program = "import sys, strongroom; strongroom.Client({}).encrypt; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    contracts = ("access", "audit", "keystore.v1.key_service", "secrets", "runtime")
    unused = ("calls.access", "calls.audit", "calls.keys", "calls.mesh", "calls.secrets", "calls.crypto.asymmetric")
    for name in (*contracts, *unused, "secret_cache", "files", "cli."):
        assert not [module for module in loaded if module.startswith(f"strongroom.{name}")], name
    for name in ("cryptography", "typer", "rich"):
        assert name not in loaded
