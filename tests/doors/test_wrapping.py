"""Wrapped answers, by hvac unchanged: opened once, by whoever holds the token, and nothing else by it."""

from __future__ import annotations

import os
import time
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor

import hvac
import pytest
import requests
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hvac.exceptions import Forbidden, InvalidRequest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client, SessionToken
from tests.support.access import EVERYTHING
from tests.support.clients import client_by, reason_of, until

NOT_VALID = "wrapping token is not valid or does not exist"


@pytest.fixture
def bearer(mesh: Mesh, doors: Doors) -> hvac.Client:
    """A client without a token."""
    return hvac.Client(url=doors.address, verify=str(mesh.authority.trust))


def wrapped(vault: hvac.Client, name: str, ttl: str = "60s") -> str:
    """The token of a secret that was read wrapped."""
    vault.secrets.kv.v2.create_or_update_secret(path=name, secret={"of": name})
    answer = vault.read(f"secret/data/{name}", wrap_ttl=ttl)
    assert answer["data"] is answer["auth"] is None
    token: str = answer["wrap_info"]["token"]
    return token


def test_an_answer_is_opened_once_by_its_token_alone(vault: hvac.Client, bearer: hvac.Client, name: str) -> None:
    vault.secrets.kv.v2.create_or_update_secret(path=name, secret={"of": name})
    info = vault.read(f"secret/data/{name}", wrap_ttl="60s")["wrap_info"]
    assert 50 <= info["ttl"] <= 60
    assert info["creation_path"] == f"secret/data/{name}"
    looked = bearer.write_data("sys/wrapping/lookup", data={"token": info["token"]})["data"]
    assert looked == {
        "creation_path": info["creation_path"],
        "creation_time": info["creation_time"],
        "creation_ttl": info["ttl"],
    }
    bearer.token = info["token"]
    assert bearer.sys.unwrap()["data"]["data"] == {"of": name}
    for again in ("unwrap", "lookup"):
        with pytest.raises(InvalidRequest, match=NOT_VALID):
            bearer.write_data(f"sys/wrapping/{again}", data={})


def test_a_client_with_a_token_of_its_own_opens_it_too(vault: hvac.Client, name: str) -> None:
    token = wrapped(vault, name)
    assert vault.sys.unwrap(token)["data"]["data"] == {"of": name}
    with pytest.raises(InvalidRequest, match=NOT_VALID):
        vault.sys.unwrap(token)


def test_of_many_who_open_it_at_once_one_has_it(plain_doors: Doors, vault: hvac.Client, name: str) -> None:
    token = wrapped(vault, name)
    url = f"{plain_doors.address}/v1/sys/wrapping/unwrap"

    def unwrap(_number: int) -> int:
        return requests.post(url, headers={"X-Vault-Token": token}, timeout=20).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(unwrap, range(8))) == [200, *[400] * 7]


def test_a_login_is_wrapped_before_anybody_sees_its_session(bearer: hvac.Client, token: str) -> None:
    role_id, secret_id = token.split(".")
    body = {"role_id": role_id, "secret_id": secret_id}
    answer = bearer.adapter.post("/v1/auth/approle/login", json=body, wrap_ttl="2m")
    assert answer["auth"] is None
    login = bearer.sys.unwrap(answer["wrap_info"]["token"])["auth"]
    bearer.token = login["client_token"]
    assert bearer.is_authenticated()


def test_any_json_is_wrapped_and_rewrapped(vault: hvac.Client, bearer: hvac.Client) -> None:
    first = vault.sys.wrap(payload={"a": [1, {"b": "é"}]}, ttl=120)["wrap_info"]["token"]
    second = vault.write_data("sys/wrapping/rewrap", data={"token": first})["wrap_info"]
    assert second["creation_path"] == "sys/wrapping/wrap"
    with pytest.raises(InvalidRequest, match=NOT_VALID):
        bearer.sys.unwrap(first)
    assert bearer.sys.unwrap(second["token"])["data"] == {"a": [1, {"b": "é"}]}
    with pytest.raises(InvalidRequest, match="requires response wrapping"):
        vault.write_data("sys/wrapping/wrap", data={"a": 1})
    other = vault.sys.wrap(payload={}, ttl=60)["wrap_info"]["token"]
    with pytest.raises(Forbidden):
        bearer.write_data("sys/wrapping/rewrap", data={"token": other})


def test_it_ends_with_its_time(vault: hvac.Client, bearer: hvac.Client, administrator: Client, name: str) -> None:
    token = wrapped(vault, name, "1s")

    def refused() -> bool:
        try:
            bearer.write_data("sys/wrapping/lookup", data={"token": token})
        except InvalidRequest as error:
            return NOT_VALID in str(error)
        return False

    until(refused, 5)
    with pytest.raises(InvalidRequest, match=NOT_VALID):
        bearer.sys.unwrap(token)

    # What nobody opened is destroyed when others are wrapped, whatever stands before it.
    for other in ("0/a", "0/b", "0/c"):
        administrator.secrets.create(f"wrapping/{other}-{name}", b"x")
    left = f"wrapping/{token.split('.')[1]}"

    def swept() -> bool:
        vault.sys.wrap(payload={}, ttl=600)
        return left not in [one.name.partition("/secrets/")[2] for one in administrator.secrets.list()]

    until(swept, 10)


def test_its_token_opens_nothing_else(mesh: Mesh, vault: hvac.Client, bearer: hvac.Client, name: str) -> None:
    token = wrapped(vault, name)
    bearer.token = token
    for path in (f"secret/data/{name}", "transit/keys", "auth/token/lookup-self"):
        with pytest.raises(Forbidden):
            bearer.read(path)
    with pytest.raises(Forbidden):
        bearer.sys.wrap(payload={"a": 1}, ttl=60)
    # The session in it, taken out, has ciphertext: the key is beside it, and no other secret is in its reach.
    _, wrap_id, _, session = token.split(".", 3)
    with client_by(mesh, SessionToken(session)) as inside:
        assert name.encode() not in inside.secrets.get_value(f"wrapping/{wrap_id}").value
        other = vault.sys.wrap(payload={}, ttl=60)["wrap_info"]["token"].split(".")[1]
        for work in (
            lambda: inside.secrets.get_value(name),
            lambda: inside.secrets.get_value(f"wrapping/{other}"),
            lambda: inside.secrets.put_value(f"wrapping/{wrap_id}", b"x"),
            lambda: list(inside.keys.list()),
            lambda: inside.access.sessions.narrow(EVERYTHING) and inside.secrets.get_value(name),
        ):
            assert reason_of(work) == "PERMISSION_DENIED"
    # And one of it is changed: nothing is opened, and what is kept stays.
    parts = token.split(".")
    for place in (1, 2, 3, 5):
        wrong = [*parts]
        wrong[place] = ("0" if parts[place][0] != "0" else "1") + parts[place][1:]
        with pytest.raises(InvalidRequest, match=NOT_VALID):
            bearer.write_data("sys/wrapping/unwrap", data={"token": ".".join(wrong)})
    assert bearer.sys.unwrap()["data"]["data"] == {"of": name}


def test_it_ends_with_the_session_that_wrapped_it(
    mesh: Mesh, doors: Doors, bearer: hvac.Client, token: str, name: str
) -> None:
    role_id, secret_id = token.split(".")
    client = hvac.Client(url=doors.address, verify=str(mesh.authority.trust))
    client.auth.approle.login(role_id=role_id, secret_id=secret_id)
    kept = wrapped(client, name)
    client.auth.token.revoke_self()

    def refused() -> bool:
        try:
            bearer.write_data("sys/wrapping/lookup", data={"token": kept})
        except InvalidRequest:
            return True
        return False

    until(refused, 1.5)


def test_nobody_is_given_in_the_clear_what_cannot_be_wrapped(
    administrator: Client, vault: hvac.Client, plain_doors: Doors, token: str, name: str
) -> None:
    vault.secrets.kv.v2.create_or_update_secret(path=name, secret={"of": name})
    url, headers = f"{plain_doors.address}/v1/secret/data/{name}", {"X-Vault-Token": token}
    for wrong in ("-1", "never", "1y", "0x10"):
        answer = requests.get(url, headers={**headers, "X-Vault-Wrap-TTL": wrong}, timeout=10)
        assert (answer.status_code, list(answer.json())) == (400, ["errors"])
    # Whoever may not keep anything in secrets gets nothing.
    principal = f"workloads/{name}"
    administrator.access.principals.create(principal, spiffe_ids=[spiffe_id(f"workload/{name}")])
    reads = 'permit (principal, action in [Strongroom::Action::"secrets:GetSecretValue", '
    reads += 'Strongroom::Action::"crypto:Decrypt"], resource);'
    administrator.access.policies.create(name, reads, attached_to=[f"accounts/default/{principal}"])
    made = administrator.access.client_keys.create(principal)
    own = {"X-Vault-Token": f"{made.client_key.name.rpartition('/')[2]}.{made.secret}"}
    until(lambda: requests.get(url, headers=own, timeout=10).status_code == 200, 5)
    answer = requests.get(url, headers={**own, "X-Vault-Wrap-TTL": "60"}, timeout=10)
    assert answer.status_code == 403
    assert name not in answer.text
    # Nor is what is larger than a secret may be.
    vault.secrets.kv.v2.create_or_update_secret(path=name, secret={"of": "x" * 65_400})
    answer = requests.get(url, headers={**headers, "X-Vault-Wrap-TTL": "60"}, timeout=10)
    assert answer.status_code == 400


def test_who_wrapped_and_who_opened_is_in_the_log(vault: hvac.Client, administrator: Client, name: str) -> None:
    token = wrapped(vault, name)
    vault.sys.unwrap(token)
    resource = f"accounts/default/secrets/wrapping/{token.split('.')[1]}"

    def told() -> set[str]:
        return {event.action for event in administrator.audit.events.list(resource=resource, limit=20)}

    wanted = {"secrets:CreateSecret", "secrets:GetSecretValue", "secrets:ForceDeleteSecret"}
    until(lambda: wanted <= told(), 5)


def made_by_hand(administrator: Client, plaintext: bytes, description: str = "60 x") -> str:
    """The token of an answer that no door has wrapped."""
    key, wrap_id = os.urandom(32), f"{int(time.time()) + 60}-{os.urandom(16).hex()}"
    full = administrator.names.secret(f"wrapping/{wrap_id}")
    nonce = os.urandom(12)
    sealed = nonce + AESGCM(key).encrypt(nonce, plaintext, full.encode())
    administrator.secrets.create(f"wrapping/{wrap_id}", sealed, description=description)
    session = administrator.access.sessions.create().token
    return f"wrap.{wrap_id}.{urlsafe_b64encode(key).decode().rstrip('=')}.{session}"


@pytest.mark.parametrize(
    "plaintext",
    [
        *(
            status.encode() + b'{"data":{}}'
            for status in ("100", "101", "103", "199", "600", "999", "000", "204", "304")
        ),
        *(status.encode() + b'{"data":{}}' for status in ("+99", " 20", "abc", "2\u0660\u0660", "-20")),
        b"200HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"200" + b"[" * 50_000,
        b"200[]",
        b'200{"data":NaN}',
        b'200{"data":"\xff"}',
        b"200" + '{"data":{}}'.encode("utf-16"),
        b"200",
        b"20",
        b"",
    ],
)
def test_what_no_door_has_wrapped_is_no_answer(plain_doors: Doors, administrator: Client, plaintext: bytes) -> None:
    url = f"{plain_doors.address}/v1/sys/wrapping/unwrap"
    answer = requests.post(url, headers={"X-Vault-Token": made_by_hand(administrator, plaintext)}, timeout=20)
    assert (answer.status_code, answer.json()["errors"]) == (400, [NOT_VALID])


def test_what_is_told_of_an_answer_is_bounded_whoever_wrote_it(bearer: hvac.Client, administrator: Client) -> None:
    for ttl, told in (("9" * 900, 1), ("999999", 12 * 3600), ("-1", 1), ("\u0663", 1)):
        token = made_by_hand(administrator, b'200{"data":{}}', f"{ttl} some/path")
        looked = bearer.write_data("sys/wrapping/lookup", data={"token": token})["data"]
        assert (looked["creation_ttl"], looked["creation_path"]) == (told, "some/path")
