"""Logins, and what clients ask of Vault itself."""

from __future__ import annotations

import json

import hvac
import pytest
import requests
from hvac.exceptions import Forbidden, InvalidPath, VaultError

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client, ClientKeySession, OidcBinding
from tests.support.clients import client_of, reason_of, until
from tests.support.oidc_issuer import Issuer


@pytest.fixture
def stranger(mesh: Mesh, doors: Doors) -> hvac.Client:
    return hvac.Client(url=doors.address, verify=str(mesh.authority.trust))


@pytest.fixture
def machine(administrator: Client, name: str) -> str:
    """A workload that may use one key, `name`."""
    administrator.access.principals.create(f"workloads/{name}", spiffe_ids=[spiffe_id(f"workload/{name}")])
    administrator.keys.create(name)
    return f"accounts/default/workloads/{name}"


def test_a_client_key_is_a_token(vault: hvac.Client, token: str) -> None:
    assert vault.is_authenticated()
    looked = vault.auth.token.lookup_self()["data"]
    assert looked["entity_id"] == "accounts/default/users/admin"
    assert (looked["id"], looked["ttl"], looked["renewable"]) == (token, 0, False)
    assert vault.auth.token.renew_self()["auth"]["client_token"] == token


def test_approle_is_a_client_key_and_answers_a_session(stranger: hvac.Client, token: str) -> None:
    role_id, secret_id = token.split(".")
    login = stranger.auth.approle.login(role_id=role_id, secret_id=secret_id)["auth"]
    assert 0 < login["lease_duration"] <= 3600
    assert login["metadata"]["principal"] == "accounts/default/users/admin"
    assert stranger.is_authenticated()
    assert stranger.auth.token.lookup_self()["data"]["ttl"] > 3000
    assert stranger.auth.token.renew_self()["auth"]["client_token"] == login["client_token"]
    other = hvac.Client(url=stranger.url, token=login["client_token"], verify=stranger.adapter._kwargs["verify"])
    stranger.auth.approle.login(role_id=role_id, secret_id=secret_id)
    other.auth.token.revoke_self()
    until(lambda: not other.is_authenticated(), 1.5)
    assert stranger.is_authenticated()


def test_a_certificate_is_a_login(mesh: Mesh, doors: Doors) -> None:
    files = mesh.administrator
    client = hvac.Client(url=doors.address, verify=str(files.trust), cert=(str(files.certificate), str(files.key)))
    login = client.auth.cert.login(cert_pem=str(files.certificate), key_pem=str(files.key))["auth"]
    assert login["metadata"]["principal"] == "accounts/default/users/admin"
    assert client.secrets.transit.generate_random_bytes(n_bytes=8)["data"]["random_bytes"]


def test_an_oidc_token_is_a_login(administrator: Client, mesh: Mesh, stranger: hvac.Client, name: str) -> None:
    subject = "system:serviceaccount:shop:orders"
    with Issuer(mesh.authority.issue("service/issuer")) as issuer:
        keys = json.dumps({"keys": issuer.keys})
        administrator.access.oidc_providers.create(name, issuer.url, ["vault"], static_jwks=keys)
        administrator.access.principals.create(f"workloads/{name}", oidc_bindings=[OidcBinding(name, subject)])
        token = issuer.token(subject, aud="vault")
    by_jwt = stranger.auth.jwt.jwt_login(role="any", jwt=token)
    by_kubernetes = stranger.auth.kubernetes.login(role="any", jwt=token)
    for answer in (by_jwt, by_kubernetes):
        assert answer["auth"]["metadata"]["principal"] == f"accounts/default/workloads/{name}"
    with pytest.raises(Forbidden, match="permission denied"):
        stranger.auth.jwt.jwt_login(role="any", jwt=token[:-4] + "AAAA")


def test_wrong_credentials_are_refused_alike(stranger: hvac.Client, plain_doors: Doors, token: str) -> None:
    role_id, secret_id = token.split(".")
    other = secret_id[:-1] + ("a" if secret_id[-1] != "a" else "b")
    for wrong in ((role_id, other), ("ck-nothing", secret_id), ("Not An Id", secret_id), (role_id, "x")):
        with pytest.raises(Forbidden, match="permission denied"):
            stranger.auth.approle.login(role_id=wrong[0], secret_id=wrong[1])
    for token_text in ("", "nonsense", "a.b.c", f"{role_id}.{other}", "x" * 9000, "h\u00e9"):
        url = f"{plain_doors.address}/v1/auth/token/lookup-self"
        answer = requests.get(url, headers={"X-Vault-Token": token_text.encode()}, timeout=10)
        assert answer.status_code == 403
        assert answer.json()["errors"][0] == "permission denied"


def test_a_namespace_is_an_account(mesh: Mesh, doors: Doors, token: str) -> None:
    def of(namespace: str) -> hvac.Client:
        return hvac.Client(url=doors.address, token=token, namespace=namespace, verify=str(mesh.authority.trust))

    assert of("default").is_authenticated()
    assert of("default/").secrets.transit.generate_random_bytes(n_bytes=8)
    with pytest.raises(Forbidden):
        of("elsewhere").secrets.transit.list_keys()
    with pytest.raises(VaultError):
        of("No/Such").secrets.transit.list_keys()


def test_a_namespace_is_another_account_for_whom_it_knows(
    mesh: Mesh, doors: Doors, administrator: Client, name: str
) -> None:
    identity = f"user/{name}"
    administrator.access.accounts.create(name, administrator_spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, name) as theirs:
        administers = next(one.name for one in theirs.access.principals.list() if "/users/" in one.name)
        made = theirs.access.client_keys.create(administers)
    key_id = made.client_key.name.rpartition("/")[2]

    def at(namespace: str, token: str = "") -> hvac.Client:
        return hvac.Client(url=doors.address, token=token, namespace=namespace, verify=str(mesh.authority.trust))

    static = at(name, f"{key_id}.{made.secret}")
    static.secrets.transit.create_key(name="orders")
    assert "orders" in static.secrets.transit.list_keys()["data"]["keys"]
    login = at(name).auth.approle.login(role_id=key_id, secret_id=made.secret)["auth"]
    assert login["metadata"]["account"] == name
    # A session is of its own account without saying so.
    for namespace in (name, ""):
        session = at(namespace, login["client_token"])
        assert session.secrets.transit.read_key(name="orders")["data"]["latest_version"] == 1
    for other in ("", "default"):
        with pytest.raises(Forbidden):
            at(other).auth.approle.login(role_id=key_id, secret_id=made.secret)
        with pytest.raises(Forbidden):
            at(other, f"{key_id}.{made.secret}").secrets.transit.list_keys()
    with pytest.raises(Forbidden):
        at("default", login["client_token"]).secrets.transit.list_keys()


def test_a_token_ends_with_its_session(mesh: Mesh, doors: Doors, administrator: Client, machine: str) -> None:
    key = administrator.access.client_keys.create(machine.removeprefix("accounts/default/"))
    credential = ClientKeySession(key.client_key.name, key.secret)
    begun = administrator.access.sessions.create(credential, duration_seconds=3)
    client = hvac.Client(url=doors.address, token=begun.token, verify=str(mesh.authority.trust))
    assert client.is_authenticated()
    until(lambda: not client.is_authenticated(), 10)
    with pytest.raises(Forbidden, match="permission denied"):
        client.secrets.transit.generate_random_bytes(n_bytes=8)
    with pytest.raises(Forbidden, match="permission denied"):
        client.auth.token.renew_self()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "auth/token/renew-self", {}),
        ("GET", "sys/mounts", None),
        ("GET", "sys/internal/ui/mounts", None),
        ("POST", "transit/hash", {"input": "YQ=="}),
    ],
)
def test_a_client_key_that_was_deleted_is_answered_nothing_within_a_second(
    administrator: Client, plain_doors: Doors, machine: str, method: str, path: str, body: dict[str, str] | None
) -> None:
    made = administrator.access.client_keys.create(machine.removeprefix("accounts/default/"))
    headers = {"X-Vault-Token": f"{made.client_key.name.rpartition('/')[2]}.{made.secret}"}

    def status() -> int:
        url = f"{plain_doors.address}/v1/{path}"
        return requests.request(method, url, headers=headers, json=body, timeout=10).status_code

    assert status() == 200
    administrator.access.client_keys.delete(made.client_key.name)
    until(lambda: status() == 403, 1.5)


def test_revoking_a_static_token_deletes_its_client_key(
    administrator: Client, mesh: Mesh, doors: Doors, machine: str
) -> None:
    made = administrator.access.client_keys.create(machine.removeprefix("accounts/default/"))
    text = f"{made.client_key.name.rpartition('/')[2]}.{made.secret}"
    client = hvac.Client(url=doors.address, token=text, verify=str(mesh.authority.trust))
    assert client.is_authenticated()
    with pytest.raises(Forbidden):
        client.auth.token.revoke_self()
    assert client.is_authenticated()
    permit = 'permit (principal, action == Strongroom::Action::"access:DeleteClientKey", resource);'
    administrator.access.policies.create(machine.rpartition("/")[2], permit, attached_to=[machine])

    def revoked() -> bool:
        try:
            client.auth.token.revoke_self()
        except Forbidden:
            return False
        return True

    until(revoked, 2)
    until(lambda: not client.is_authenticated(), 2)
    assert reason_of(lambda: administrator.access.client_keys.get(made.client_key.name)) == "CLIENT_KEY_NOT_FOUND"


def test_each_use_is_an_event_of_who_asked_and_names_the_door(
    administrator: Client, mesh: Mesh, doors: Doors, machine: str, name: str
) -> None:
    grant = administrator.access.grants.create(name, machine, ["crypto:Encrypt"])
    made = administrator.access.client_keys.create(machine.removeprefix("accounts/default/"))
    text = f"{made.client_key.name.rpartition('/')[2]}.{made.secret}"
    client = hvac.Client(url=doors.address, token=text, verify=str(mesh.authority.trust))
    client.secrets.transit.encrypt_data(name=name, plaintext="YQ==")
    with pytest.raises(Forbidden, match="permission denied"):
        client.secrets.transit.read_key(name=name)

    def events() -> list[object]:
        return list(administrator.audit.events.list(principal=machine, limit=20))

    until(lambda: len(events()) >= 2, 5)
    by_action = {event.action: event for event in events()}  # type: ignore[attr-defined]
    for action, outcome in (("crypto:Encrypt", "ALLOWED"), ("keystore:GetKey", "DENIED")):
        event = by_action[action]
        assert event.via_service == "services/doors"  # type: ignore[attr-defined]
        assert event.source_address == "127.0.0.1"  # type: ignore[attr-defined]
        assert str(event.outcome).endswith(outcome)  # type: ignore[attr-defined]
    administrator.access.grants.revoke(grant.name)

    def refused() -> bool:
        try:
            client.secrets.transit.encrypt_data(name=name, plaintext="YQ==")
        except Forbidden:
            return True
        return False

    # Within a second, and what the mesh takes on a busy machine to be asked.
    until(refused, 1.5)


def test_sys_tells_what_clients_want_to_know(vault: hvac.Client, stranger: hvac.Client) -> None:
    assert stranger.sys.read_health_status(method="GET")["initialized"]
    assert stranger.sys.read_health_status(method="HEAD").status_code == 200
    assert not stranger.sys.is_sealed()
    assert stranger.sys.is_initialized()
    assert stranger.sys.read_leader_status()["is_self"]
    mounts = vault.sys.list_mounted_secrets_engines()
    assert mounts["data"]["secret/"]["options"] == mounts["secret/"]["options"] == {"version": "2"}
    tuned = vault.sys.read_mount_configuration(path="mariadb")
    assert tuned["options"] == tuned["data"]["options"] == {"version": "2"}
    assert vault.read("sys/internal/ui/mounts/secret/any/path")["data"]["path"] == "secret/"
    with pytest.raises(InvalidPath):
        vault.sys.read_mount_configuration(path="absent")
    with pytest.raises(Forbidden):
        stranger.sys.list_mounted_secrets_engines()


def test_capabilities_are_what_the_mesh_would_decide(vault: hvac.Client, name: str) -> None:
    answer = vault.sys.get_capabilities(
        paths=[f"transit/encrypt/{name}", f"secret/data/{name}", "nowhere/x", "transit/encrypt/No"]
    )
    assert answer[f"transit/encrypt/{name}"] == ["update"]
    assert set(answer[f"secret/data/{name}"]) == {"read", "create", "update", "patch", "delete"}
    assert answer["nowhere/x"] == answer["transit/encrypt/No"] == ["deny"]
    everything = vault.sys.get_capabilities(paths=[f"transit/keys/{name}", f"transit/keys/{name}/import"])
    assert everything[f"transit/keys/{name}"] == ["read", "create", "update", "delete"]
    assert everything[f"transit/keys/{name}/import"] == ["update"]


def test_capabilities_of_a_token_are_those_of_whoever_it_stands_for(
    vault: hvac.Client, administrator: Client, machine: str, name: str
) -> None:
    made = administrator.access.client_keys.create(machine.removeprefix("accounts/default/"))
    administrator.access.grants.create(name, machine, ["crypto:Encrypt"])
    permit = 'permit (principal, action == Strongroom::Action::"access:SimulateAccess", resource);'
    administrator.access.policies.create(name, permit, attached_to=[machine])
    token = f"{made.client_key.name.rpartition('/')[2]}.{made.secret}"
    encrypt, rotate = f"transit/encrypt/{name}", f"transit/keys/{name}/rotate"

    def told() -> dict[str, list[str]]:
        try:
            return dict(vault.sys.get_capabilities(paths=[encrypt, rotate], token=token)["data"])
        except Forbidden:
            return {}

    until(lambda: told().get(encrypt) == ["update"], 3)
    assert told()[rotate] == ["deny"]


def test_a_list_is_asked_for_as_go_reads_truth(plain_doors: Doors, token: str, vault: hvac.Client, name: str) -> None:
    vault.secrets.transit.create_key(name=name)
    for truth in ("true", "1", "t", "TRUE"):
        url = f"{plain_doors.address}/v1/transit/keys?list={truth}"
        assert name in requests.get(url, headers={"X-Vault-Token": token}, timeout=10).json()["data"]["keys"]
