"""Addresses of callers: one form of each, whatever socket tells it."""

from __future__ import annotations

import pytest

from services.runtime.access.cedar import Parsed
from services.runtime.access.decisions import NO_POLICIES, Account, Decider, Question, Resource
from services.runtime.access.strangers import network_of
from services.runtime.addresses import plain_address
from services.runtime.call import Principal
from services.runtime.rpc.admission import address_of
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord, PrincipalRecord
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY

ANN = "accounts/acme/users/ann"
KEY = Resource("Key", "accounts/acme/keys/k", "acme", 7)


@pytest.mark.parametrize(
    ("told", "plain"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("::FFFF:a00:7", "10.0.0.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_an_address_has_one_form(told: str, plain: str) -> None:
    assert plain_address(told) == plain
    assert network_of(told) == network_of(plain)


def test_a_peer_of_a_socket_for_both_families_has_its_ipv4_address() -> None:
    assert address_of("ipv6:%5B::ffff:10.0.0.7%5D:1234") == "10.0.0.7"
    assert address_of("ipv6:%5Bfe80::1%25eth0%5D:1234") == "fe80::1"


@pytest.mark.parametrize("address", ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0"])
@pytest.mark.parametrize("seconds", [0.0, 1.8e9, -62135596800.0, 253402300800.0])
def test_policies_on_addresses_hold_however_the_address_is_told(address: str, seconds: float) -> None:
    cedar = (
        "permit (principal, action, resource);"
        'forbid (principal, action, resource) when { context.source_address.isInRange(ip("10.0.0.0/8")) };'
        'forbid (principal, action, resource) when { context.time < datetime("0001-01-01") };'
    )
    record = PolicyRecord(name="accounts/acme/policies/p", cedar=cedar, kind=POLICY_KIND_IDENTITY, attached_to=[""])
    access = AccountAccess(account="acme", principals=[PrincipalRecord(name=ANN)], policies=[record])
    question = Question(Principal(ANN, "acme"), "crypto:Encrypt", KEY, source_address=address, time=seconds)
    decided = Decider(question, Account(access, Parsed()), NO_POLICIES, ()).decide(question)[1]
    assert decided.allowed == address.startswith("fe80")
    assert "not-evaluated" not in decided.decided_by
