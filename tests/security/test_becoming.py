"""Nobody becomes another, outlives what it came from, or does in two steps what one refuses."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography import x509

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client, ClientCertificate, SessionToken
from strongroom.calls.access.principals import OidcBinding
from tests.support import access
from tests.support.access import ASSUME_ROLE
from tests.support.clients import client_by, client_of, reason_of, refusal, until
from tests.support.every_method import Answer, Caller

LOOK = "access:GetAccount"


class Delegates:
    """Users of one account who may do some actions, and nothing else."""

    def __init__(self, mesh: Mesh, tenant: Client, account: str, stack: ExitStack) -> None:
        self._mesh = mesh
        self._tenant = tenant
        self._account = account
        self._stack = stack

    def __call__(self, *actions: str) -> Client:
        """A new one."""
        user = f"eve-{secrets.token_hex(3)}"
        identity = f"user/{self._account}-{user}"
        self._tenant.access.principals.create(f"users/{user}", spiffe_ids=[spiffe_id(identity)])
        permits = (
            f'permit (principal, action == Strongroom::Action::"{action}", resource);' for action in (LOOK, *actions)
        )
        self._tenant.access.policies.create(f"of-{user}", "\n".join(permits), attached_to=[f"users/{user}"])
        client = self._stack.enter_context(client_of(self._mesh, identity, self._account))
        until(lambda: reason_of(client.access.accounts.get) == "", 2.0)
        return client


@pytest.fixture
def delegate(mesh: Mesh, tenant: Client, name: str) -> Iterator[Delegates]:
    """Makes users with few permissions."""
    with ExitStack() as stack:
        yield Delegates(mesh, tenant, name, stack)


def test_to_bind_an_identity_is_to_become_its_principal(tenant: Client, delegate: Delegates, name: str) -> None:
    provider = tenant.access.oidc_providers.create("mine", "https://mine.example", ["a"]).name
    changes: list[dict[str, Any]] = [
        {"spiffe_ids": [spiffe_id(f"user/{name}-mine")]},
        {"oidc_bindings": [OidcBinding(provider, "me", {})]},
    ]
    eve = delegate("access:UpdatePrincipal")
    assert eve.access.principals.update("users/admin", description="x").description == "x"
    for change in changes:
        assert refusal(lambda: eve.access.principals.update("users/admin", **change)).reason == "PERMISSION_DENIED"  # noqa: B023
    binder = delegate("access:UpdatePrincipal", "access:BindIdentity")
    tenant.access.principals.create("users/other")
    for change in changes:
        binder.access.principals.update("users/other", **change)


def test_a_trust_policy_says_who_becomes_the_role(tenant: Client, delegate: Delegates) -> None:
    tenant.access.principals.create("roles/r", trust_policy=ASSUME_ROLE.replace("permit", "forbid"))
    eve = delegate("access:UpdatePrincipal")
    assert reason_of(lambda: eve.access.principals.update("roles/r", trust_policy=ASSUME_ROLE)) == "PERMISSION_DENIED"
    setter = delegate("access:UpdatePrincipal", "access:SetTrustPolicy")
    setter.access.principals.update("roles/r", trust_policy=ASSUME_ROLE)


def test_to_make_somebody_who_is_known_is_to_become_them(tenant: Client, delegate: Delegates, name: str) -> None:
    """Others may have permitted something to whoever will bear a name."""
    provider = tenant.access.oidc_providers.create("mine", "https://mine.example", ["a"]).name
    tenant.access.principals.create("roles/held", trust_policy=ASSUME_ROLE.replace("permit", "forbid"))
    known: list[tuple[str, str, dict[str, Any]]] = [
        ("users/ci", "access:BindIdentity", {"spiffe_ids": [spiffe_id(f"user/{name}-mine")]}),
        ("workloads/ci", "access:BindIdentity", {"oidc_bindings": [OidcBinding(provider, "me", {})]}),
        ("roles/ci", "access:SetTrustPolicy", {"trust_policy": ASSUME_ROLE}),
        ("users/held", "access:SetPrincipalRoles", {"roles": ["held"]}),
    ]
    eve = delegate("access:CreatePrincipal")
    assert eve.access.principals.create("users/nobody").spiffe_ids == ()
    makers = {action: delegate("access:CreatePrincipal", action) for action in {action for _, action, _ in known}}
    for principal, action, fields in known:
        for other, maker in [("", eve), *makers.items()]:
            made = reason_of(lambda: maker.access.principals.create(principal, **fields))  # noqa: B023
            # The right one may once, and afterwards the name is taken.
            assert made == ("" if other == action else "PERMISSION_DENIED"), (principal, other)


def test_to_trust_an_issuer_is_to_say_whose_keys_it_has(tenant: Client, delegate: Delegates) -> None:
    """Deleting a provider and making it anew changes it."""
    provider = tenant.access.oidc_providers.create("cluster", "https://cluster.example", ["a"]).name
    eve = delegate("access:DeleteOidcProvider", "access:CreateOidcProvider")
    eve.access.oidc_providers.delete(provider)
    for wanted in ("cluster", "another"):
        made = reason_of(lambda: eve.access.oidc_providers.create(wanted, f"https://{wanted}.example", ["evil"]))  # noqa: B023
        assert made == "PERMISSION_DENIED"
    setter = delegate("access:CreateOidcProvider", "access:SetIssuerKeys")
    setter.access.oidc_providers.create("cluster", "https://cluster.example", ["b"])


def test_an_issuers_keys_are_changed_by_who_may_become_all_that_it_speaks_for(
    tenant: Client, delegate: Delegates
) -> None:
    provider = tenant.access.oidc_providers.create("cluster", "https://cluster.example", ["a"]).name
    tenant.access.principals.create("users/bound", oidc_bindings=[OidcBinding(provider, "s", {})])
    tenant.access.oidc_providers.update(provider, disabled=True)
    changes: list[dict[str, Any]] = [
        {"jwks_uri": "https://evil.example/keys"},
        {"audiences": ["evil"]},
        {"disabled": False},
    ]
    for actions in ((), ("access:SetIssuerKeys",), ("access:BindIdentity",)):
        eve = delegate("access:UpdateOidcProvider", *actions)
        assert eve.access.oidc_providers.update(provider, description="x").description == "x"
        for change in changes:
            assert reason_of(lambda: eve.access.oidc_providers.update(provider, **change)) == "PERMISSION_DENIED"  # noqa: B023
    both = delegate("access:UpdateOidcProvider", "access:SetIssuerKeys", "access:BindIdentity")
    assert both.access.oidc_providers.update(provider, audiences=["b"]).audiences == ("b",)


def test_a_session_as_a_role_ends_with_the_session_that_began_it(client: Client, mesh: Mesh) -> None:
    role = access.role(client)
    credential = access.client_key(client, access.workload(client))
    with client_by(mesh, credential) as whole:
        short = whole.access.sessions.create(credential, duration_seconds=30)
    with client_by(mesh, SessionToken(short.token)) as stolen:
        assumed = stolen.access.sessions.assume_role(role, "longer", duration_seconds=3600)
    assert ends(assumed.token) <= ends(short.token)
    with client_by(mesh, SessionToken(assumed.token)) as again:
        assert reason_of(lambda: again.access.sessions.assume_role(role, "itself")) == "FIELD_INVALID"
        other = again.access.sessions.assume_role(access.role(client), "on")
    assert ends(other.token) <= ends(short.token)


def ends(token: str) -> int:
    """When a session ends, in seconds since the Unix epoch."""
    return int(jwt.decode(token, options={"verify_signature": False})["exp"])


def test_chains_of_roles_are_bounded(client: Client, mesh: Mesh) -> None:
    roles = [access.role(client) for _ in range(6)]
    token = client.access.sessions.assume_role(roles[0], "s").token
    reason = ""
    for role in roles[1:]:
        with client_by(mesh, SessionToken(token)) as session:
            reason = reason_of(lambda: session.access.sessions.assume_role(role, "s"))  # noqa: B023
            if not reason:
                token = session.access.sessions.assume_role(role, "s").token
    assert reason == "LIMIT_EXCEEDED"


def test_an_identity_that_is_taken_away_takes_its_sessions_along(tenant: Client, mesh: Mesh, name: str) -> None:
    identity = f"user/{name}-gone"
    user = tenant.access.principals.create("users/gone", spiffe_ids=[spiffe_id(identity)]).name
    tenant.access.policies.create("of-gone", access.EVERYTHING, attached_to=[user])
    role = tenant.access.principals.create("roles/r", trust_policy=ASSUME_ROLE).name
    with client_of(mesh, identity, name) as gone:
        until(lambda: reason_of(gone.access.accounts.get) == "", 2.0)
        token = gone.access.sessions.assume_role(role, "s").token
    with client_by(mesh, SessionToken(token), account=name) as session:
        assert session.access.whoami().principal == role
        tenant.access.principals.update(user, spiffe_ids=[])
        until(lambda: reason_of(session.access.whoami) == "TOKEN_INVALID", 3.0)


def test_an_alias_is_not_deleted_and_made_anew_to_retarget_it(tenant: Client, delegate: Delegates) -> None:
    old, new = tenant.keys.create("old").name, tenant.keys.create("new").name
    signing = tenant.keys.create("signing", spec="EC_P256", usage="SIGN_VERIFY").name
    alias = tenant.keys.aliases.create("current", old).name
    eve = delegate("keystore:CreateAlias", "keystore:DeleteAlias")
    eve.keys.aliases.delete(alias)
    assert reason_of(lambda: eve.keys.aliases.create("current", new)) == "PERMISSION_DENIED"
    # Not of another kind either, which nobody could move it to.
    assert reason_of(lambda: tenant.keys.aliases.create("current", signing)) == "FIELD_INVALID"
    eve.keys.aliases.create("current", old)
    eve.keys.aliases.delete(alias)
    assert tenant.keys.aliases.create("current", new).key == new


def test_a_request_id_is_its_callers_own(tenant: Client, mesh: Mesh, name: str) -> None:
    identity = f"user/{name}-second"
    tenant.access.principals.create("users/second", spiffe_ids=[spiffe_id(identity)])
    tenant.access.policies.create("of-second", access.EVERYTHING, attached_to=["users/second"])
    requests: dict[str, dict[str, Any]] = {
        "KeyService.CreateKey": {
            "parent": f"accounts/{name}",
            "key": {"protection_level": "PROTECTION_LEVEL_SOFTWARE"},
        },
        "SecretService.CreateSecret": {
            "parent": f"accounts/{name}",
            "secret_id": "s",
            "value": "AAAA",
            "secret": {"key": f"accounts/{name}/keys/k"},
        },
        "AccessService.CreateGrant": {
            "parent": f"accounts/{name}",
            "grant": {"key": f"accounts/{name}/keys/k", "grantee": f"accounts/{name}/users/admin"},
        },
    }
    tenant.keys.create("k")
    requests["AccessService.CreateGrant"]["grant"]["operations"] = ["crypto:Sign"]
    with Caller(mesh, f"user/{name}") as first, Caller(mesh, identity) as second:
        until(lambda: second.call("AccessService.GetAccount", {"name": f"accounts/{name}"}).code == "OK", 2.0)
        for method, request in requests.items():
            asked = {**request, "request_id": str(uuid4())}
            mine, again = first.call(method, asked), first.call(method, asked)
            assert (mine.code, again.code) == ("OK", "OK"), f"{method}: {mine.message} {again.message}"
            assert name_of(mine) == name_of(again)
            theirs = second.call(method, asked)
            if "secret_id" in request:
                # There is one of this name, whoever made it.
                assert theirs.code == "ALREADY_EXISTS"
            else:
                assert (theirs.code, name_of(theirs) == name_of(mine)) == ("OK", False)


def name_of(answer: Answer) -> str:
    """The name of what was made."""
    return str(getattr(answer.response, "name", ""))


def test_a_session_ends_no_later_than_the_certificate_that_began_it(tenant: Client, mesh: Mesh, name: str) -> None:
    identity, longest = f"user/{name}-short", 12 * 3600
    tenant.access.principals.create("users/short", spiffe_ids=[spiffe_id(identity)])
    tenant.access.policies.create("of-short", access.EVERYTHING, attached_to=["users/short"])
    role = tenant.access.principals.create(
        "roles/any", trust_policy=ASSUME_ROLE, max_session_duration=timedelta(hours=12)
    ).name
    files = mesh.authority.issue(identity, lifetime=timedelta(minutes=20))
    end = x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc
    credentials = ClientCertificate(files.certificate, files.key)
    with client_by(mesh, credentials, account=name) as short:
        until(lambda: reason_of(short.access.accounts.get) == "", 2.0)
        begun = short.access.sessions.create(duration_seconds=longest)
        assumed = short.access.sessions.assume_role(role, "s", duration_seconds=longest)
    with client_by(mesh, SessionToken(begun.token), account=name) as later:
        chained = later.access.sessions.assume_role(role, "s", duration_seconds=longest)
    for session in (begun, assumed, chained):
        assert session.expire_time is not None
        assert session.expire_time <= end
        # By the certificate, and by nothing shorter.
        assert session.expire_time > end - timedelta(minutes=2)
