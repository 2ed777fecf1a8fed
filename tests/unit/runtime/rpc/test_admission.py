"""Whose a call is by its headers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from services.runtime.call import Principal
from services.runtime.config import InternalListener
from services.runtime.mesh.forwarding import Metadata
from services.runtime.rpc.admission import FromOutside, FromTheMesh, address_of, stranger

PEER = "ipv4:10.0.0.1:4711"


@dataclass
class Said:
    peer: str = PEER
    metadata: Metadata = ()
    spiffe_id: str = ""


class Remembering:
    def remembered_token(self, token: str) -> Principal | None:
        return Principal("accounts/a/users/t", "a") if token == "good" else None

    def remembered_certificate(self, spiffe_id: str) -> Principal | None:
        return Principal("accounts/b/users/c", "b") if spiffe_id == "spiffe://mesh/user/c" else None


@pytest.mark.parametrize(
    ("said", "group", "known"),
    [
        (Said(metadata=(("authorization", "Bearer good"),)), "a", True),
        (Said(spiffe_id="spiffe://mesh/user/c"), "b", True),
        (Said(metadata=(("authorization", "Bearer forged"),)), "10.0.0.1", False),
        # A forged token does not make a certificate count: the pipeline would not look at it either.
        (Said(metadata=(("authorization", "Bearer forged"),), spiffe_id="spiffe://mesh/user/c"), "10.0.0.1", False),
        (Said(spiffe_id="spiffe://mesh/user/nobody"), "10.0.0.1", False),
        (Said(), "10.0.0.1", False),
    ],
)
def test_callers_from_outside(said: Said, group: str, known: bool) -> None:
    caller = FromOutside(Remembering())(said)
    assert (caller.group, caller.is_known) == (group, known)


def test_only_configured_services_are_known_to_the_mesh() -> None:
    settings = InternalListener(
        address="127.0.0.1:1",
        allow={"s": ["spiffe://mesh/service/crypto"]},
        may_forward=["spiffe://mesh/service/secrets"],
    )
    recognize = FromTheMesh(settings, Remembering())
    assert recognize(Said(spiffe_id="spiffe://mesh/service/crypto")).is_known
    assert recognize(Said(spiffe_id="spiffe://mesh/service/secrets")).is_known
    assert not recognize(Said(spiffe_id="spiffe://mesh/user/admin")).is_known


def test_callers_who_come_through_a_door_take_turns_as_they_do_outside() -> None:
    door = "spiffe://mesh/service/doors"
    settings = InternalListener(address="127.0.0.1:1", allow={"s": [door]}, may_pass_on=[door])
    recognize = FromTheMesh(settings, Remembering())
    for metadata, group, known in (
        ((("authorization", "Bearer good"), ("strongroom-source-address", "192.0.2.7")), "a", True),
        ((("authorization", "Bearer new"), ("strongroom-source-address", "192.0.2.7")), "192.0.2.7", False),
        ((("strongroom-source-address", "2001:db8::1"),), "2001:db8::/64", False),
        ((), "10.0.0.1", False),
    ):
        caller = recognize(Said(spiffe_id=door, metadata=metadata))
        assert (caller.group, caller.is_known) == (group, known)


def test_a_host_with_a_whole_ipv6_network_is_one_stranger() -> None:
    one, other, else_where = (
        stranger(f"ipv6:%5B{address}%5D:4711") for address in ("2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1")
    )
    assert one.group == other.group != else_where.group


def test_addresses_as_grpc_writes_them() -> None:
    assert address_of(PEER) == "10.0.0.1"
    assert address_of("ipv6:%5B::1%5D:51234") == "::1"
    assert address_of("unix:/run/socket") == "unix:/run/socket"
