"""OIDC providers over a real mesh, as far as they are records."""

from __future__ import annotations

import json
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from deploy.dev.mesh import Mesh
from strongroom import Client, OidcBinding
from tests.support.clients import refusal

ISSUER = "https://cluster.example"


def jwks(*, private: bool = False) -> str:
    key = Ed25519PrivateKey.generate()
    return json.dumps({"keys": [OKPAlgorithm.to_jwk(key if private else key.public_key(), as_dict=True)]})


def test_a_provider_is_kept_as_it_was_given(tenant: Client, mesh: Mesh, name: str) -> None:
    authority = mesh.authority.trust.read_text()
    keys = jwks()
    made = tenant.access.oidc_providers.create(
        "cluster", ISSUER, ["strongroom"], ca_certificates=authority, static_jwks=keys, description="Our cluster"
    )

    assert (made.name, made.issuer, made.audiences) == (
        f"accounts/{name}/oidcProviders/cluster",
        ISSUER,
        ("strongroom",),
    )
    read = tenant.access.oidc_providers.get("cluster")
    assert (read.static_jwks, read.ca_certificates, read.description) == (keys, authority, "Our cluster")
    assert (read.fetch_time, read.fetch_error, read.disabled) == (None, "", False)
    changed = tenant.access.oidc_providers.update("cluster", audiences=["a", "b"], disabled=True, etag=made.etag)
    assert (changed.audiences, changed.disabled, changed.static_jwks) == (("a", "b"), True, keys)
    assert (
        refusal(lambda: tenant.access.oidc_providers.update("cluster", disabled=False, etag=made.etag)).reason
        == "ETAG_MISMATCH"
    )
    tenant.access.oidc_providers.create("other", "https://other.example", ["strongroom"])
    assert [one.name for one in tenant.access.oidc_providers.list("disabled = true")] == [made.name]
    assert [one.name for one in tenant.access.oidc_providers.list(f'issuer = "{ISSUER}"')] == [made.name]
    assert len(list(tenant.access.oidc_providers.list())) == 2


def test_an_account_has_an_issuer_once(client: Client, tenant: Client, name: str) -> None:
    tenant.access.oidc_providers.create("cluster", ISSUER, ["a"])
    error = refusal(lambda: tenant.access.oidc_providers.create("again", ISSUER, ["a"]))
    assert (error.reason, error.field) == ("ALREADY_EXISTS", "oidc_provider.issuer")
    error = refusal(lambda: tenant.access.oidc_providers.create("cluster", "https://other.example", ["a"]))
    assert (error.reason, error.field) == ("ALREADY_EXISTS", "oidc_provider_id")
    # Another account may know it too.
    assert client.access.oidc_providers.create(name, f"{ISSUER}/{name}", ["a"]).issuer == f"{ISSUER}/{name}"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"issuer": "http://cluster.example"}, "issuer"),
        ({"issuer": "https://user@cluster.example"}, "issuer"),
        ({"issuer": ""}, "issuer"),
        ({"audiences": []}, "audiences"),
        ({"audiences": [str(number) for number in range(17)]}, "audiences"),
        ({"audiences": [""]}, "audiences"),
        ({"jwks_uri": "file:///etc/passwd"}, "jwks_uri"),
        ({"ca_certificates": "no certificate"}, "ca_certificates"),
        ({"static_jwks": "{}"}, "static_jwks"),
        ({"static_jwks": "no json"}, "static_jwks"),
        ({"static_jwks": '{"keys": [1]}'}, "static_jwks"),
        ({"static_jwks": jwks(private=True)}, "static_jwks"),
    ],
)
def test_what_is_no_provider_is_refused(tenant: Client, changes: dict[str, object], field: str) -> None:
    asked = {"issuer": ISSUER, "audiences": ["a"], **changes}
    error = refusal(partial(tenant.access.oidc_providers.create, "cluster", **asked))  # type: ignore[arg-type]
    assert error.field == f"oidc_provider.{field}"


def test_a_subject_stands_for_one_principal_and_keeps_its_provider(tenant: Client) -> None:
    tenant.access.oidc_providers.create("cluster", ISSUER, ["a"])
    orders = OidcBinding("cluster", "system:serviceaccount:shop:orders", {"namespace": "shop"})
    made = tenant.access.principals.create("workloads/orders", oidc_bindings=[orders])
    assert [(binding.subject, binding.required_claims) for binding in made.oidc_bindings] == [
        (orders.subject, orders.required_claims)
    ]
    error = refusal(lambda: tenant.access.principals.create("workloads/other", oidc_bindings=[orders]))
    assert (error.reason, error.field) == ("ALREADY_EXISTS", "principal.oidc_bindings")
    nowhere = OidcBinding("nowhere", "subject")
    assert refusal(lambda: tenant.access.principals.create("workloads/x", oidc_bindings=[nowhere])).reason == (
        "OIDC_PROVIDER_NOT_FOUND"
    )
    assert refusal(lambda: tenant.access.oidc_providers.delete("cluster")).reason == "RESOURCE_IN_USE"
    tenant.access.principals.update("workloads/orders", oidc_bindings=[])
    tenant.access.oidc_providers.delete("cluster")
    assert refusal(lambda: tenant.access.oidc_providers.get("cluster")).reason == "OIDC_PROVIDER_NOT_FOUND"
