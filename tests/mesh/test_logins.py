"""`strongroom login`, `whoami`, `logout`, `assume-role` and `--as-role`, one command after the other."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from deploy.dev.mesh import Mesh
from deploy.dev.topology import SERVICES
from strongroom import Client, ClientKeySession
from strongroom.toml_text import toml_text
from tests.support import access
from tests.support.cli import run
from tests.support.clients import until
from tests.support.oidc_issuer import Issuer


@pytest.fixture
def config(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Profiles `key`, for who has no certificate, and `admin`, with the administrator's."""
    path = tmp_path / "profiles.toml"
    common = {"account": "default", "trust": mesh.authority.trust}
    files = mesh.administrator
    profiles = {
        "key": {**common, "endpoints": {name: mesh.address(name, "public") for name in SERVICES}},
        "admin": {
            **common,
            "certificate": files.certificate,
            "key": files.key,
            "endpoints": {name: mesh.address(name) for name in SERVICES},
        },
    }
    path.write_text(toml_text({"current": "key", "profiles": profiles}))
    monkeypatch.setenv("STRONGROOM_CONFIG", str(path))
    monkeypatch.delenv("STRONGROOM_TOKEN", raising=False)
    return path


@pytest.fixture
def workload(client: Client) -> str:
    return access.workload(client)


@pytest.fixture
def credential(client: Client, workload: str) -> ClientKeySession:
    return access.client_key(client, workload)


def strongroom(*arguments: str, stdin: str = "", status: int = 0) -> Result:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == status, result.output
    return result


def whoami(*options: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(strongroom("whoami", "--json", *options).stdout)
    return document


def kept(config: Path) -> list[Path]:
    return sorted((config.parent / "sessions").glob("*/*"))


def test_a_typed_secret_begins_a_session_that_later_commands_use_until_logout(
    config: Path, credential: ClientKeySession, workload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = str(credential.secret)
    strongroom("login", "--client-key", credential.name, "--session-name", "laptop", stdin=secret)

    who = whoami()
    assert (who["principal"], who["session_name"], who["credential"]) == (workload, "laptop", credential.name)
    (login,) = kept(config)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (login.parent.parent, login.parent, login)] == [
        *(0o700, 0o700),
        0o600,
    ]
    assert secret not in login.read_text()

    token = json.loads(login.read_text())["token"]
    strongroom("logout")
    assert kept(config) == []
    # It is not only forgotten here.
    monkeypatch.setenv("STRONGROOM_TOKEN", token)
    until(lambda: "TOKEN_INVALID" in run("whoami").stderr, 1.5)
    monkeypatch.delenv("STRONGROOM_TOKEN")
    assert "UNAUTHENTICATED" in strongroom("whoami", status=3).stderr


def test_a_login_that_is_over_says_so(config: Path, credential: ClientKeySession) -> None:
    strongroom("login", "--client-key", credential.name, stdin=str(credential.secret))
    (login,) = kept(config)
    login.write_text(json.dumps({**json.loads(login.read_text()), "expires": 1.0}))

    assert "LOGIN_EXPIRED" in strongroom("whoami", status=3).stderr


def test_a_wrong_secret_leaves_the_login_before_as_it_was(config: Path, credential: ClientKeySession) -> None:
    del config
    strongroom("login", "--client-key", credential.name, stdin=str(credential.secret))
    refused = strongroom("login", "--client-key", credential.name, stdin="guessed", status=3)
    assert "CREDENTIAL_INVALID" in refused.stderr
    assert whoami()["credential"] == credential.name


def test_one_token_serves_many_commands_and_is_got_again_when_refused(
    config: Path, client: Client, credential: ClientKeySession, workload: str, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text(str(credential.secret))
    strongroom("login", "--client-key", credential.name, "--secret-file", str(path))
    assert whoami()["principal"] == workload
    (token_file,) = (path for path in kept(config) if path.name != "login.json")
    token = token_file.read_text()
    assert whoami()["principal"] == workload
    assert token_file.read_text() == token
    assert [stat.S_IMODE(file.stat().st_mode) for file in kept(config)] == [0o600, 0o600]

    client.access.principals.revoke_sessions(workload)

    until(lambda: whoami()["principal"] == workload and token_file.read_text() != token)


@pytest.fixture
def issuer(mesh: Mesh, client: Client) -> Iterator[Issuer]:
    with access.trusted_for_now(client, mesh) as issuer:
        yield issuer


def test_an_issuers_token_is_read_from_its_file(
    config: Path, client: Client, issuer: Issuer, workload: str, tmp_path: Path
) -> None:
    del config
    access.bind(client, workload, access.provider(client, issuer), "build")
    path = tmp_path / "token"
    path.write_text(issuer.token("build"))

    strongroom("login", "--oidc-token-file", str(path))

    assert (whoami()["principal"], whoami()["credential_kind"]) == (workload, "OIDC_TOKEN")


def test_a_certificate_is_exchanged_for_sessions(config: Path) -> None:
    assert whoami("--profile", "admin")["expire_time"] is None
    strongroom("login", "--certificate", "--profile", "admin")
    assert whoami("--profile", "admin")["expire_time"] is not None
    assert len(kept(config)) == 2
    strongroom("logout", "--profile", "admin")
    assert whoami("--profile", "admin")["expire_time"] is None


def test_a_command_is_run_as_a_role(config: Path, client: Client) -> None:
    role = access.role(client)

    who = whoami("--profile", "admin", "--as-role", role)
    again = whoami("--profile", "admin", "--as-role", role.rpartition("/")[2])

    assert (who["principal"], who["assumed_by"]) == (role, ["accounts/default/users/admin"])
    assert who["expire_time"] == again["expire_time"]
    assert len(kept(config)) == 1


def test_an_assumed_roles_token_is_printed_for_other_programs(
    config: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    del config
    role = access.role(client)
    tags = ("--tag", "tenant=a")
    begun = strongroom("assume-role", role, "--session-name", "nightly", *tags, "--profile", "admin")
    assert role in begun.stderr

    monkeypatch.setenv("STRONGROOM_TOKEN", begun.stdout.strip())
    who = whoami()

    assert (who["principal"], who["session_name"], who["session_tags"]) == (role, "nightly", {"tenant": "a"})


def test_one_way_to_log_in_is_chosen(config: Path) -> None:
    del config
    strongroom("login", status=2)
    strongroom("login", "--certificate", "--client-key", "a", status=2)
    strongroom("login", "--certificate", "--secret-file", "a", status=2)
