"""OpenBao's own command line, unchanged: what its users type, with VAULT_ADDR and VAULT_TOKEN set and nothing else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from strongroom import Client
from strongroom.calls.access.principals import OidcBinding
from tests.support import access
from tests.support.oidc_issuer import Issuer
from tools import openbao


@dataclass(frozen=True)
class Bao:
    """The command, with variables of its own and a home directory that is empty."""

    program: Path
    variables: dict[str, str]

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """What it makes of its arguments."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_"))}
        return subprocess.run(
            [self.program, *arguments],
            env={**kept, **self.variables},
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def text(self, *arguments: str, given: str = "") -> str:
        """What it writes, without its last newline. Fails the test where it fails."""
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout.rstrip("\n")

    def json(self, *arguments: str, given: str = "") -> Any:
        """What it writes as JSON."""
        command, rest = (arguments[:2], arguments[2:]) if arguments[0] in _GROUPS else (arguments[:1], arguments[1:])
        if command == ("kv", "metadata"):
            command, rest = arguments[:3], arguments[3:]
        return json.loads(self.text(*command, "-format=json", *rest, given=given))

    def refusal(self, *arguments: str) -> str:
        """What it says where it fails."""
        done = self.run(*arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr


_GROUPS = ("kv", "secrets", "auth", "token")


@pytest.fixture(scope="session")
def program() -> Path:
    found = openbao.find_program()
    if found is None:
        pytest.skip("OpenBao is not here: python -m tools.openbao")
    return found


@pytest.fixture
def bao(program: Path, mesh: Mesh, doors: Doors, token: str, tmp_path: Path) -> Bao:
    """For the account's administrator."""
    variables = {
        "VAULT_ADDR": doors.address,
        "VAULT_TOKEN": token,
        "VAULT_CACERT": str(mesh.authority.trust),
        "HOME": str(tmp_path),
    }
    return Bao(program, variables)


@pytest.fixture
def nobody(bao: Bao) -> Bao:
    """The command where nobody has logged in."""
    return replace(bao, variables={name: value for name, value in bao.variables.items() if name != "VAULT_TOKEN"})


def test_status_and_what_is_mounted(bao: Bao, nobody: Bao) -> None:
    status = nobody.json("status")
    assert (status["initialized"], status["sealed"]) == (True, False)
    assert "Sealed" in nobody.text("status")
    mounted = bao.json("secrets", "list")
    assert mounted["secret/"]["options"] == {"version": "2"}
    assert mounted["transit/"]["type"] == "transit"
    assert "transit/" in bao.text("secrets", "list", "-detailed")
    assert set(bao.json("auth", "list")) >= {"approle/", "token/"}
    assert "supported" in bao.refusal("secrets", "enable", "kv")
    assert "permission denied" in nobody.refusal("secrets", "list")


def test_key_value_version_2(bao: Bao, name: str) -> None:
    path = f"secret/bao/{name}"
    assert bao.json("kv", "put", path, "user=app", "password=first")["data"]["version"] == 1
    assert bao.text("kv", "get", "-field=password", path) == "first"
    assert bao.json("kv", "get", "-mount=secret", f"bao/{name}")["data"]["data"] == {"user": "app", "password": "first"}
    assert "check-and-set" in bao.refusal("kv", "put", "-cas=0", path, "user=other")
    assert bao.json("kv", "patch", path, "password=second")["data"]["version"] == 2
    assert "second" in bao.text("kv", "get", path)
    assert bao.text("kv", "get", "-version=1", "-field=password", path) == "first"
    assert bao.json("kv", "list", "secret/bao") == [name]
    assert name in bao.text("kv", "list", "secret/bao")
    bao.text("kv", "metadata", "put", "-custom-metadata=owner=shop", "-max-versions=5", path)
    about = bao.json("kv", "metadata", "get", path)["data"]
    assert (about["current_version"], about["custom_metadata"], about["max_versions"]) == (2, {"owner": "shop"}, 5)
    assert "owner" in bao.text("kv", "metadata", "get", path)
    bao.text("kv", "delete", path)
    assert "No data found" in bao.refusal("kv", "get", "-field=password", path)
    bao.text("kv", "undelete", "-versions=2", path)
    assert bao.text("kv", "get", "-field=password", path) == "second"
    bao.text("kv", "rollback", "-version=1", path)
    assert bao.text("kv", "get", "-field=password", path) == "first"
    bao.text("kv", "destroy", "-versions=1", path)
    assert "No data found" in bao.refusal("kv", "get", "-version=1", "-field=password", path)
    bao.text("kv", "metadata", "delete", path)
    assert "No value found" in bao.refusal("kv", "get", path)


def test_a_secret_from_a_file_and_by_version_1(bao: Bao, name: str, tmp_path: Path) -> None:
    file = tmp_path / "db.json"
    file.write_text('{"user": "app", "port": 5432}')
    bao.text("kv", "put", f"secret/bao/{name}", f"@{file}")
    assert bao.json("kv", "get", f"secret/bao/{name}")["data"]["data"] == {"user": "app", "port": 5432}
    bao.text("kv", "put", f"secret/bao/{name}", "-", given='{"user": "other"}')
    assert bao.text("kv", "get", "-field=user", f"kv/bao/{name}") == "other"
    bao.text("kv", "put", f"kv/bao/{name}", "user=third")
    assert bao.json("read", f"kv/bao/{name}")["data"] == {"user": "third"}
    assert name in bao.json("kv", "list", "kv/bao")


def test_transit(bao: Bao, name: str) -> None:
    assert bao.json("write", "-force", f"transit/keys/{name}")["data"]["latest_version"] == 1
    plaintext = base64.b64encode(b"hello").decode()
    sealed = bao.text("write", "-field=ciphertext", f"transit/encrypt/{name}", f"plaintext={plaintext}")
    assert sealed.startswith("vault:v1:")
    opened = bao.text("write", "-field=plaintext", f"transit/decrypt/{name}", f"ciphertext={sealed}")
    assert base64.b64decode(opened) == b"hello"
    bao.text("write", "-f", f"transit/keys/{name}/rotate")
    again = bao.text("write", "-field=ciphertext", f"transit/rewrap/{name}", f"ciphertext={sealed}")
    assert again.startswith("vault:v2:")
    assert bao.json("read", f"transit/keys/{name}")["data"]["latest_version"] == 2
    assert "latest_version" in bao.text("read", f"transit/keys/{name}")
    assert name in bao.json("list", "transit/keys")
    assert bao.json("write", "-f", f"transit/datakey/plaintext/{name}")["data"]["plaintext"]
    bao.text("write", f"transit/keys/{name}/config", "deletion_allowed=true", "min_decryption_version=2")
    assert "400" in bao.refusal("write", f"transit/decrypt/{name}", f"ciphertext={sealed}")
    bao.text("delete", f"transit/keys/{name}")
    assert "PENDING_DELETION" in bao.refusal("write", f"transit/encrypt/{name}", f"plaintext={plaintext}")
    assert "No value found" in bao.refusal("read", f"transit/keys/{name}")


def test_signing(bao: Bao, name: str) -> None:
    bao.text("write", f"transit/keys/{name}", "type=ed25519")
    message = base64.b64encode(b"message").decode()
    signature = bao.text("write", "-field=signature", f"transit/sign/{name}", f"input={message}")
    verified = bao.json("write", f"transit/verify/{name}", f"input={message}", f"signature={signature}")
    assert verified["data"] == {"valid": True}


def test_what_a_token_asks_of_itself(bao: Bao, name: str) -> None:
    found = bao.json("token", "lookup")["data"]
    assert found["entity_id"] == "accounts/default/users/admin"
    assert "entity_id" in bao.text("token", "lookup")
    assert bao.json("token", "renew")["auth"]["client_token"] == bao.variables["VAULT_TOKEN"]
    assert "update" in bao.text("token", "capabilities", f"transit/encrypt/{name}")


def test_a_session_by_each_login_looks_at_itself_and_ends_itself(
    bao: Bao, nobody: Bao, mesh: Mesh, administrator: Client, issuer: Issuer, name: str
) -> None:
    administrator.access.oidc_providers.create(
        name, issuer.url, ["vault"], static_jwks=json.dumps({"keys": issuer.keys})
    )
    subject = f"system:serviceaccount:shop:{name}"
    administrator.access.principals.create(f"workloads/{name}", oidc_bindings=[OidcBinding(name, subject)])
    role_id, secret_id = bao.variables["VAULT_TOKEN"].split(".")
    certificate = mesh.authority.issue("user/admin")
    shown = {"VAULT_CLIENT_CERT": str(certificate.certificate), "VAULT_CLIENT_KEY": str(certificate.key)}
    with_certificate = replace(nobody, variables={**nobody.variables, **shown})
    jwt = f"jwt={issuer.token(subject, aud='vault')}"
    logins = {
        "users/admin": [
            nobody.json("write", "auth/approle/login", f"role_id={role_id}", f"secret_id={secret_id}"),
            with_certificate.json("login", "-method=cert", "-no-store"),
        ],
        f"workloads/{name}": [
            nobody.json("write", "auth/jwt/login", "role=any", jwt),
            nobody.json("login", "-method=kubernetes", "-no-store", "role=any", jwt),
        ],
    }
    ended: list[Bao] = []
    for principal, answers in logins.items():
        for answer in answers:
            token = answer["auth"]["client_token"]
            session = replace(nobody, variables={**nobody.variables, "VAULT_TOKEN": token})
            assert session.json("token", "lookup")["data"]["entity_id"] == f"accounts/default/{principal}"
            assert bao.json("token", "lookup", token)["data"]["entity_id"] == f"accounts/default/{principal}"
            bao.text("token", "renew", token)
            ends = ("-self",) if len(ended) % 2 else (token,)
            (session if len(ended) % 2 else bao).text("token", "revoke", *ends)
            ended.append(session)
    access.settle()
    assert all("permission denied" in session.refusal("token", "lookup") for session in ended)


def test_a_login_by_token_is_kept_for_later_commands(bao: Bao, nobody: Bao) -> None:
    nobody.text("login", "-", given=bao.variables["VAULT_TOKEN"])
    assert nobody.json("token", "lookup")["data"]["entity_id"] == "accounts/default/users/admin"
    assert nobody.text("print", "token") == bao.variables["VAULT_TOKEN"]
    assert "permission denied" in nobody.refusal("login", "nonsense")


def test_a_wrapped_answer_is_unwrapped_once(bao: Bao, nobody: Bao, name: str) -> None:
    bao.text("kv", "put", f"secret/bao/{name}", "user=app")
    wrapped = bao.json("kv", "get", "-wrap-ttl=5m", f"secret/bao/{name}")["wrap_info"]["token"]
    assert nobody.json("unwrap", wrapped)["data"]["data"] == {"user": "app"}
    assert nobody.run("unwrap", wrapped).returncode != 0


@pytest.fixture
def issuer(mesh: Mesh) -> Iterator[Issuer]:
    with Issuer(mesh.authority.issue("service/issuer")) as issuer:
        yield issuer
