"""`strongroom account`, `principal`, `role`, `policy`, `client-key`, `oidc-provider` and `quota`, over a real mesh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import ADMINISTRATOR, SERVICES
from strongroom import Client
from tests.support.cli import run


class Shell:
    """Where two administrators type: the tenant's, and with `--profile mesh` the mesh's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def type(self, *arguments: str, status: int = 0) -> str:
        """What a command prints: on standard error where it is to fail."""
        done = run(*arguments)
        assert done.exit_code == status, done.output
        return done.stdout if status == 0 else done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.type(*arguments, "--json"))

    def file(self, name: str, text: str) -> str:
        """A file's path, once it holds the text."""
        path = self.directory / name
        path.write_text(text)
        return str(path)


@pytest.fixture
def shell(mesh: Mesh, tenant: Client, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    del tenant
    lines = ['current = "tenant"']
    for profile, account, identity in (("tenant", name, f"user/{name}"), ("mesh", "default", ADMINISTRATOR)):
        files = mesh.authority.issue(identity)
        lines += [
            f"[profiles.{profile}]",
            f'account = "{account}"',
            *(f'{field} = "{getattr(files, field)}"' for field in ("trust", "certificate", "key")),
            f"[profiles.{profile}.endpoints]",
            *(f'{service} = "{mesh.address(service)}"' for service in SERVICES),
        ]
    (tmp_path / "profiles.toml").write_text("\n".join(lines))
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    monkeypatch.delenv("STRONGROOM_PROFILE", raising=False)
    return Shell(tmp_path)


def test_accounts_are_kept(shell: Shell, name: str) -> None:
    of_mesh = ("--profile", "mesh")
    made = shell.json("account", "create", f"{name}-2", "--display-name", "A shop", "--tag", "plan=gold", *of_mesh)
    assert (made["display_name"], made["tags"]) == ("A shop", {"plan": "gold"})
    assert made["client_key_secret"].startswith("strongroom_ck_")
    listed = shell.type("account", "list", "--filter", f"id_prefix = {name}", *of_mesh)
    assert [line.split()[0] for line in listed.splitlines()[1:]] == [f"accounts/{name}", f"accounts/{name}-2"]
    assert shell.json("account", "disable", f"{name}-2", *of_mesh)["disabled"]
    assert "DISABLED" in shell.type("account", "list", "--filter", f"id_prefix = {name}-2", *of_mesh)
    assert not shell.json("account", "enable", f"{name}-2", *of_mesh)["disabled"]
    assert shell.json("account", "update", "--display-name", "Us")["display_name"] == "Us"
    assert shell.json("account", "describe")["name"] == f"accounts/{name}"
    assert "(FIELD_REQUIRED)" in shell.type("account", "update", status=3)


def test_principals_and_roles_are_kept(shell: Shell, name: str) -> None:
    trust = shell.file("trust", 'permit (principal, action == Strongroom::Action::"access:AssumeRole", resource);')
    shell.type("role", "create", "operator", "--trust-policy", trust, "--max-session", "120")
    assert shell.json("role", "describe", "operator")["max_session_duration"] == "7200s"
    assert shell.json("role", "trust", "operator", "--trust-policy", trust)["max_session_duration"] == "3600s"
    assert "roles/operator" in shell.type("role", "list")

    ann = shell.json("principal", "create", "users/ann", "--tag", "team=a", "--role", "operator")
    assert (ann["kind"], ann["roles"]) == ("USER", [f"accounts/{name}/roles/operator"])
    assert shell.json("principal", "set-tags", "users/ann", "team=b")["tags"] == {"team": "b"}
    assert "users/ann" in shell.type("principal", "list", "--filter", "tags.team = b")
    assert shell.json("principal", "set-roles", "users/ann", "--yes")["roles"] == []
    assert shell.json("principal", "update", "users/ann", "--description", "Ann")["description"] == "Ann"
    assert shell.json("principal", "disable", "users/ann")["disabled"]
    assert not shell.json("principal", "enable", "users/ann")["disabled"]
    assert shell.json("principal", "revoke-sessions", "users/ann")["sessions_valid_after"]
    assert shell.type("principal", "delete", "users/ann", "--yes") == "deleted users/ann\n"
    assert "(PRINCIPAL_NOT_FOUND," in shell.type("principal", "describe", "users/ann", status=3)


def test_policies_are_kept(shell: Shell, name: str) -> None:
    use = shell.file("use", 'permit (principal, action in Strongroom::Action::"crypto", resource);')
    odd = shell.file("odd", "permit (principal, action, resource)\nwhen { resource.colour == 1 };")
    shell.type("policy", "create", "use", use, "--attach", "roles/auditor", "--description", "Use")
    assert shell.json("policy", "detach", "use", "roles/auditor")["attached_to"] == []
    attached = shell.json("policy", "attach", "use", f"accounts/{name}")
    assert attached["attached_to"] == [f"accounts/{name}"]
    assert "IDENTITY" in shell.type("policy", "list", "--filter", "id_prefix = use")
    assert "crypto" in shell.type("policy", "describe", "use")
    assert shell.json("policy", "update", "use", "--description", "Other")["description"] == "Other"
    assert shell.type("policy", "validate", use) == "valid\n"
    assert f"{odd}:2:" in run("policy", "validate", odd).stdout
    assert run("policy", "validate", odd).exit_code == 1
    assert "line 2" in shell.type("policy", "update", "use", odd, status=3)
    assert "(POLICY_LOCKOUT," in shell.type("policy", "delete", "administrator", "--yes", status=3)
    assert shell.type("policy", "delete", "use", "--yes") == "deleted policies/use\n"


def test_client_keys_are_kept(shell: Shell) -> None:
    shown = shell.json("client-key", "create", "users/admin", "--expire-days", "7")
    assert shown["secret"].startswith("strongroom_ck_")
    secret = shell.directory / "secret"
    kept = shell.json("client-key", "create", "users/admin", "--secret-out", str(secret), "--description", "laptop")
    assert kept["secret"] is None
    assert secret.read_text().startswith("strongroom_ck_")
    assert secret.stat().st_mode & 0o777 == 0o600
    assert "laptop" in shell.type("client-key", "list", "--principal", "users/admin")
    assert shell.json("client-key", "update", kept["name"], "--description", "desk")["description"] == "desk"
    assert shell.json("client-key", "disable", kept["name"])["disabled"]
    assert not shell.json("client-key", "enable", kept["name"])["disabled"]
    assert shell.type("client-key", "delete", kept["name"], "--yes").startswith("deleted clientKeys/ck-")
    assert shell.json("client-key", "describe", shown["name"])["expire_time"] == shown["expire_time"]


def test_oidc_providers_and_quotas_are_kept(shell: Shell) -> None:
    shell.type("oidc-provider", "create", "cluster", "--issuer", "https://cluster.example", "--audience", "strongroom")
    orders = shell.json("principal", "create", "workloads/orders", "--oidc", "cluster=system:serviceaccount:a:b")
    assert orders["oidc_bindings"][0]["subject"] == "system:serviceaccount:a:b"
    assert "(RESOURCE_IN_USE," in shell.type("oidc-provider", "delete", "cluster", "--yes", status=3)
    assert shell.json("principal", "update", "workloads/orders", "--no-identities", "--yes")["oidc_bindings"] == []
    assert shell.json("oidc-provider", "disable", "cluster")["disabled"]
    assert "DISABLED" in shell.type("oidc-provider", "list")
    assert not shell.json("oidc-provider", "enable", "cluster")["disabled"]
    assert shell.json("oidc-provider", "update", "cluster", "--audience", "a", "--audience", "b")["audiences"] == [
        "a",
        "b",
    ]
    assert shell.type("oidc-provider", "delete", "cluster", "--yes") == "deleted oidcProviders/cluster\n"

    assert shell.json("quota", "set", "workloads/orders", "--requests-per-second", "50")["burst"] == 100
    assert shell.json("quota", "get", "workloads/orders")["overridden"]
    assert "workloads/orders  50.0        100" in shell.type("quota", "list")
    assert not shell.json("quota", "reset", "workloads/orders")["overridden"]
    assert "(PERMISSION_DENIED," in shell.type("quota", "set", "--each-principal", "5", status=3)
