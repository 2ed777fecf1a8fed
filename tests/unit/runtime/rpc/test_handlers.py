"""Handlers: every method of every service is offered by exactly one, or the service does not start."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from deploy.dev.topology import SERVICES
from services.runtime.rpc.handlers import by_method
from strongroom.access.v1 import (
    access_record_service_pb2,
    access_service_pb2,
    client_key_rotation_service_pb2,
    session_service_pb2,
)
from strongroom.audit.v1 import (
    audit_service_pb2,
    event_log_service_pb2,
    record_key_service_pb2,
    sealing_service_pb2,
)
from strongroom.crypto.v1 import crypto_pb2, material_pb2
from strongroom.keystore.v1 import key_record_service_pb2, key_service_pb2
from strongroom.secrets.v1 import secret_service_pb2

SESSIONS = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]
OFFERED: dict[str, list[ServiceDescriptor]] = {
    "audit": [
        audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
        event_log_service_pb2.DESCRIPTOR.services_by_name["EventLogService"],
        record_key_service_pb2.DESCRIPTOR.services_by_name["RecordKeyService"],
        sealing_service_pb2.DESCRIPTOR.services_by_name["SealingService"],
    ],
    "crypto": [
        crypto_pb2.DESCRIPTOR.services_by_name["CryptoService"],
        material_pb2.DESCRIPTOR.services_by_name["MaterialService"],
    ],
    "keystore": [
        SESSIONS,
        access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
        access_record_service_pb2.DESCRIPTOR.services_by_name["AccessRecordService"],
        client_key_rotation_service_pb2.DESCRIPTOR.services_by_name["ClientKeyRotationService"],
        key_service_pb2.DESCRIPTOR.services_by_name["KeyService"],
        key_record_service_pb2.DESCRIPTOR.services_by_name["KeyRecordService"],
    ],
    "secrets": [secret_service_pb2.DESCRIPTOR.services_by_name["SecretService"]],
}
CONTRACTS = [(name, contract) for name, contracts in OFFERED.items() for contract in contracts]


class Creates:
    """Begins sessions."""

    def CreateSession(self) -> None: ...  # noqa: N802  # the contract's name


class Assumes:
    """Assumes roles, and ends sessions."""

    def AssumeRole(self) -> None: ...  # noqa: N802

    def NarrowSession(self) -> None: ...  # noqa: N802

    def RevokeSession(self) -> None: ...  # noqa: N802


class Tells:
    """Tells who calls."""

    def GetCallerIdentity(self) -> None: ...  # noqa: N802


class TellsToo(Tells):
    """Tells it in another way."""


def handlers_of(service: str) -> Iterator[type]:
    """The classes in a service's `handlers`."""
    package = import_module(f"services.{service}.handlers")
    for found in iter_modules(package.__path__, f"{package.__name__}."):
        for _, kind in inspect.getmembers(import_module(found.name), inspect.isclass):
            if kind.__module__ == found.name:
                yield kind


def test_the_methods_are_divided_between_handlers() -> None:
    tells = Tells()
    behaviours = by_method(SESSIONS, [Creates(), Assumes(), tells])
    assert set(behaviours) == {"CreateSession", "AssumeRole", "GetCallerIdentity", "NarrowSession", "RevokeSession"}
    offering: object = tells.GetCallerIdentity
    assert behaviours["GetCallerIdentity"] == offering


@pytest.mark.parametrize(
    ("handlers", "message"),
    [
        (
            [Creates()],
            f"{SESSIONS.full_name}: no handler offers AssumeRole, GetCallerIdentity, NarrowSession, RevokeSession",
        ),
        (
            [Creates(), Assumes(), Tells(), TellsToo()],
            "strongroom.access.v1.SessionService: GetCallerIdentity is offered by Tells and TellsToo",
        ),
        (
            [Creates(), Assumes(), Tells(), object()],
            "strongroom.access.v1.SessionService: object offers none of its methods",
        ),
    ],
)
def test_a_method_without_its_one_handler_is_named(handlers: list[object], message: str) -> None:
    with pytest.raises(TypeError) as refused:
        by_method(SESSIONS, handlers)
    assert str(refused.value) == message


def test_every_service_is_looked_at() -> None:
    assert set(OFFERED) == set(SERVICES)


@pytest.mark.parametrize(("service", "contract"), CONTRACTS, ids=[contract.name for _, contract in CONTRACTS])
def test_every_method_of_a_contract_has_one_handler(service: str, contract: ServiceDescriptor) -> None:
    offering = {
        method.name: [kind.__name__ for kind in handlers_of(service) if hasattr(kind, method.name)]
        for method in contract.methods
    }
    assert {name: kinds for name, kinds in offering.items() if len(kinds) != 1} == {}


@pytest.mark.parametrize("service", OFFERED)
def test_no_handler_inherits_methods(service: str) -> None:
    names = {method.name for contract in OFFERED[service] for method in contract.methods}
    for kind in handlers_of(service):
        for base in kind.__mro__[1:]:
            assert not names & set(vars(base)), f"{kind.__name__} inherits from {base.__name__}"
