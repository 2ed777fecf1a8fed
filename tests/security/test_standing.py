"""Whoever may do nothing at all may do nothing by any method of any public contract."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy.dev.mesh import Mesh
from tests.support.access import ASSUME_ROLE
from tests.support.accounts import EVERYTHING, Furnished, furnished
from tests.support.clients import client_of, until
from tests.support.every_method import METHODS, Caller, request_of

NOTHING = "forbid (principal, action, resource);"
# Whoever calls it is not known before: its request authenticates.
_EXCHANGES = {"SessionService.CreateSession"}
# They tell a session of itself, and what is published: no policy is asked, only whether the caller may act at all.
_OF_ONESELF = {
    *(f"SessionService.{method}" for method in ("GetCallerIdentity", "NarrowSession", "RevokeSession")),
    "AccessService.GetSchema",
}
# An outcome for each item: here none has a value.
_BY_ITEM = {"SecretService.BatchGetSecretValue"}
_REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED")


@dataclass(frozen=True, slots=True)
class Nobodies:
    """Sessions of which each may do nothing at all."""

    account: Furnished
    callers: dict[str, Caller]


@pytest.fixture(scope="module")
def nobodies(mesh: Mesh) -> Iterator[Nobodies]:
    """A disabled principal, one whose sessions were ended, one of a disabled account, and a narrowed session."""
    ends = secrets.token_hex(4)
    with client_of(mesh) as operator:
        account = furnished(mesh, operator, f"nobody-{ends}")
        disabled_account = furnished(mesh, operator, f"disabled-{ends}")
    tokens: dict[str, str] = {}
    with client_of(mesh, account.identity, account.names.account) as admin:
        for who in ("disabled", "ended", "narrowed"):
            # Each is whom the account's grant serves, as far as one can be.
            name = f"roles/{who}"
            made = admin.access.principals.create(name, trust_policy=ASSUME_ROLE)
            admin.access.policies.create(f"of-{who}", EVERYTHING, attached_to=[made.name])
            policy = NOTHING if who == "narrowed" else ""
            tokens[who] = admin.access.sessions.assume_role(made.name, "s", session_policy=policy).token
        admin.access.principals.disable("roles/disabled")
        admin.access.principals.revoke_sessions("roles/ended")
    with client_of(mesh, disabled_account.identity, disabled_account.names.account) as admin:
        made = admin.access.principals.create("roles/whole", trust_policy=ASSUME_ROLE)
        admin.access.policies.create("of-whole", EVERYTHING, attached_to=[made.name])
        tokens["account"] = admin.access.sessions.assume_role(made.name, "s").token
    with client_of(mesh) as operator:
        operator.access.accounts.disable(disabled_account.names.account)
    callers = {who: Caller(mesh, "", token) for who, token in tokens.items()}
    for who in ("disabled", "ended", "account"):
        for method in (
            "AccessService.GetSchema",
            "CryptoService.GenerateRandom",
            "SecretService.GenerateRandomPassword",
            "AuditService.GetLog",
        ):
            until(lambda: callers[who].call(method, {}).code in _REFUSED)  # noqa: B023
    yield Nobodies(account, callers)
    for caller in callers.values():
        caller.close()


@pytest.mark.parametrize("method", sorted(set(METHODS) - _EXCHANGES))
def test_every_method_refuses_them(nobodies: Nobodies, method: str) -> None:
    request = request_of(method, nobodies.account.names)
    for who, caller in nobodies.callers.items():
        if who == "narrowed" and method in _OF_ONESELF | _BY_ITEM:
            continue
        answer = caller.call(method, request)
        assert answer.code in _REFUSED, f"{who}: {answer.code} {answer.message}"


def test_a_grant_is_not_read_or_retired_by_whom_it_serves_without_standing(mesh: Mesh) -> None:
    with client_of(mesh) as operator:
        account = furnished(mesh, operator, f"served-{secrets.token_hex(4)}")
    with client_of(mesh, account.identity, account.names.account) as admin:
        served = admin.access.principals.create("roles/served", trust_policy=ASSUME_ROLE).name
        key = f"accounts/{account.names.account}/keys/present"
        grant = admin.access.grants.create(key, served, ["crypto:Sign", "access:RetireGrant"]).name
        narrowed = admin.access.sessions.assume_role(served, "n", session_policy=NOTHING).token
        whole = admin.access.sessions.assume_role(served, "w").token
        for token, code in ((narrowed, "PERMISSION_DENIED"), (whole, "OK")):
            with Caller(mesh, "", token) as caller:
                assert caller.call("AccessService.GetGrant", {"name": grant}).code == code
        admin.access.principals.disable(served)
        for token in (narrowed, whole):
            with Caller(mesh, "", token) as caller:
                assert caller.call("AccessService.GetGrant", {"name": grant}).code == "PERMISSION_DENIED"
                assert caller.call("AccessService.RetireGrant", {"name": grant}).code == "PERMISSION_DENIED"
        admin.access.principals.enable(served)
        with Caller(mesh, "", narrowed) as caller:
            assert caller.call("AccessService.RetireGrant", {"name": grant}).code == "PERMISSION_DENIED"
        with Caller(mesh, "", whole) as caller:
            assert caller.call("AccessService.RetireGrant", {"name": grant}).code == "OK"
