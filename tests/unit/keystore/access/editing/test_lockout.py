"""Whether an account could still change its policies."""

from __future__ import annotations

import pytest

from services.keystore.access.editing import lockout
from services.runtime.access.cedar import Parsed
from services.runtime.access.decisions import Account
from services.runtime.call import Call, Principal
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord, PrincipalRecord
from strongroom.access.v1.principal_pb2 import PRINCIPAL_KIND_ROLE, PRINCIPAL_KIND_USER, PRINCIPAL_KIND_WORKLOAD

ANN, BOB, ROLE = "accounts/acme/users/ann", "accounts/acme/workloads/bob", "accounts/acme/roles/administrator"
EVERYTHING = "permit (principal, action, resource);"
NO_ACCESS = 'forbid (principal, action in Strongroom::Action::"access", resource);'


def locked_out(*policies: tuple[str, str], caller: str = ANN, disabled: str = "", policy: str = "") -> bool:
    """With Ann, who holds the role, Bob, who holds none, and policies on them: target and text, for everybody without
    a target."""
    access = AccountAccess(
        account="acme",
        principals=[
            PrincipalRecord(name=ANN, kind=PRINCIPAL_KIND_USER, roles=[ROLE], disabled=disabled == ANN),
            PrincipalRecord(name=BOB, kind=PRINCIPAL_KIND_WORKLOAD, disabled=disabled == BOB),
            PrincipalRecord(name=ROLE, kind=PRINCIPAL_KIND_ROLE),
        ],
        policies=[
            PolicyRecord(name=f"accounts/acme/policies/p{number}", cedar=text, attached_to=[target] if target else [])
            for number, (target, text) in enumerate(policies)
        ],
    )
    call = Call("test", "Test", "access:Test", source_address="10.0.0.7", principal=Principal(caller, "acme"))
    try:
        lockout.require_way_back(access, call, policy, Account(access, Parsed()), now_us=1_800_000_000_000_000)
    except StrongroomError as error:
        assert error.reason is Reason.POLICY_LOCKOUT
        return True
    return False


@pytest.mark.parametrize("target", [ANN, ROLE, BOB, ""])
def test_one_who_may_do_everything_is_enough_whoever_calls(target: str) -> None:
    for caller in (ANN, BOB, "accounts/other/users/root"):
        assert not locked_out((target, EVERYTHING), caller=caller)


def test_nobody_is_not_enough() -> None:
    assert locked_out()
    assert locked_out((ROLE, EVERYTHING), disabled=ANN)
    assert not locked_out((BOB, EVERYTHING), disabled=ANN)


def test_a_forbid_counts_for_whom_it_reaches() -> None:
    assert locked_out(("", EVERYTHING), ("", NO_ACCESS))
    assert not locked_out(("", EVERYTHING), (ROLE, NO_ACCESS))
    assert locked_out((ROLE, EVERYTHING), (ANN, NO_ACCESS))


@pytest.mark.parametrize("verb", ["Create", "Update", "Delete", "Attach", "Detach"])
def test_every_way_of_changing_policies_is_needed(verb: str) -> None:
    forbid = f'forbid (principal, action == Strongroom::Action::"access:{verb}Policy", resource);'
    assert locked_out(("", EVERYTHING), ("", forbid))


def test_conditions_are_met_from_where_the_change_comes() -> None:
    here = 'permit (principal, action, resource) when { context.source_address.isInRange(ip("10.0.0.0/8")) };'
    there = here.replace("10.0.0.0/8", "192.168.0.0/16")
    assert not locked_out((ROLE, here))
    assert locked_out((ROLE, there))


def test_a_policy_that_protects_itself_is_noticed_when_it_is_changed() -> None:
    itself = "accounts/acme/policies/eternal"
    forbid = f'forbid (principal, action, resource == Strongroom::Policy::"{itself}");'
    assert locked_out(("", EVERYTHING), ("", forbid), policy=itself)
    assert not locked_out(("", EVERYTHING), ("", forbid))


def test_what_a_policy_does_is_told_from_its_text() -> None:
    assert lockout.permits(EVERYTHING + NO_ACCESS)
    assert lockout.forbids(EVERYTHING + NO_ACCESS)
    assert not lockout.permits(NO_ACCESS)
    assert not lockout.forbids(EVERYTHING + "// forbid (principal, action, resource);")
