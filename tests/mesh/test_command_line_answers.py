"""What commands answer over a real mesh: after rotations, in pipes, to scripts, and what they end for good."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from deploy.dev.profile import write_profile
from deploy.dev.topology import SERVICES
from strongroom import Client
from strongroom.cli.complaints import Status
from tests.support.cli import run
from tests.support.clients import until

Typed = Callable[..., Result]


@pytest.fixture
def typed(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """What comes of a command, which has to end with a status."""
    administrator = mesh.administrator
    profile = {
        "account": ACCOUNT,
        "trust": str(administrator.trust),
        "certificate": str(administrator.certificate),
        "key": str(administrator.key),
        "endpoints": {service: mesh.address(service) for service in SERVICES},
    }
    write_profile(tmp_path / "profiles.toml", profile)
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    for variable in ("STRONGROOM_PROFILE", "STRONGROOM_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)

    def typed(*arguments: str, given: bytes | str | None = None, status: int = 0) -> Result:
        ended = run(*arguments, stdin=given)
        assert ended.exit_code == status, (arguments, ended.output)
        return ended

    return typed


def answered(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_what_was_signed_before_a_rotation_is_verified_and_by_which_version_is_said(
    typed: Typed, name: str, form: str
) -> None:
    typed("key", "create", name, "--spec", "EC_P256", "--usage", "SIGN_VERIFY")
    signed = typed("sign", name, "--text", "message", "-o", form)
    Path("old.sig").write_bytes(signed.stdout_bytes)
    if form == "table":
        assert signed.stderr == f"signed by keys/{name}/versions/1\n"
    typed("key", "rotate", name)
    until(lambda: "versions/2\n" in run("sign", name, "--text", "message").stderr, 5)
    found = answered(typed("verify", name, "--signature-file", "old.sig", "--text", "message", "--json"))
    assert (found["valid"], found["key_version"]) == (True, f"accounts/{ACCOUNT}/keys/{name}/versions/1")
    told = typed("verify", name, "--signature-file", "old.sig", "--text", "message").stdout
    assert f"keys/{name}/versions/1" in told
    assert "yes" in told
    other = typed("verify", name, "--signature-file", "old.sig", "--text", "another", status=Status.NO)
    assert "no" in other.stdout.split()
    typed("key", "version", "disable", f"{name}/versions/1")
    until(lambda: run("verify", name, "--signature-file", "old.sig", "--text", "message").exit_code == 1, 5)
    assert f"not tried: keys/{name}/versions/1" in (
        typed("verify", name, "--signature-file", "old.sig", "--text", "message", status=Status.NO).stderr
    )
    no = typed("verify", name, "--signature-file", "old.sig", "--text", "message", "--json", status=Status.NO)
    assert answered(no)["not_tried"] == [f"accounts/{ACCOUNT}/keys/{name}/versions/1"]


def test_a_mac_of_before_a_rotation_is_verified(typed: Typed, name: str) -> None:
    typed("key", "create", name, "--spec", "HMAC_256")
    made = typed("mac", "generate", name, "--text", "message")
    typed("mac", "generate", name, "--text", "message", "--out", "raw.mac")
    assert base64.b64decode(made.stdout) == Path("raw.mac").read_bytes()
    typed("key", "rotate", name)
    until(lambda: answered(run("mac", "generate", name, "--text", "m", "--json"))["key_version"].endswith("/2"), 5)
    for given in (("--mac", made.stdout.strip()), ("--mac-file", "raw.mac")):
        found = answered(typed("mac", "verify", name, *given, "--text", "message", "--json"))
        assert found["key_version"].endswith("/versions/1")


def test_what_was_encrypted_to_a_key_before_a_rotation_is_decrypted(typed: Typed, name: str) -> None:
    typed("key", "create", name, "--spec", "RSA_2048", "--usage", "ENCRYPT_DECRYPT")
    typed("public-key", "encrypt", name, "--text", "hello", "--out", "letter")
    typed("key", "rotate", name)
    until(lambda: "versions/2\n" in run("public-key", "encrypt", name, "--text", "x").stderr, 5)
    opened = typed("public-key", "decrypt", name, "--in", "letter")
    assert (opened.stdout, opened.stderr) == ("hello", f"decrypted by keys/{name}/versions/1\n")
    Path("odd").write_bytes(bytes(256))
    assert "CIPHERTEXT_INVALID" in typed("public-key", "decrypt", name, "--in", "odd", status=Status.REFUSED).stderr


def test_what_one_command_prints_another_reads(typed: Typed, name: str) -> None:
    typed("key", "create", name)
    inbox = f"{name}-inbox"
    typed("key", "create", inbox, "--spec", "RSA_2048", "--usage", "ENCRYPT_DECRYPT")
    for form in ("table", "json", "yaml"):
        Path("sealed").write_bytes(typed("encrypt", name, "--text", "secret", "-o", form).stdout_bytes)
        assert typed("decrypt", "--in", "sealed").stdout == "secret"
        assert typed("decrypt", given=Path("sealed").read_bytes()).stdout == "secret"
        Path("letter").write_bytes(typed("public-key", "encrypt", inbox, "--text", "hello", "-o", form).stdout_bytes)
        assert typed("public-key", "decrypt", inbox, "--in", "letter").stdout == "hello"
        assert typed("public-key", "decrypt", inbox, given=Path("letter").read_bytes()).stdout == "hello"
    typed("encrypt", name, "--in", "-", "--out", "raw", given=b"\x00\xff\n")
    assert typed("decrypt", "--in", "raw").stdout_bytes == b"\x00\xff\n"
    assert typed("encrypt", name, "--text", "x", "--out", "-").stdout_bytes[:1] == b"\x01"
    assert typed("key", "list", "-o", "name").stdout.splitlines()
    assert yaml.safe_load(typed("key", "describe", name, "-o", "yaml").stdout)["spec"] == "AES_256"


def test_events_are_found_by_the_names_that_the_table_prints(typed: Typed, client: Client, name: str) -> None:
    key = client.keys.create(name).name
    client.encrypt(key, b"x")
    for given in (f"keys/{name}", key):
        listed = typed("audit", "events", "--resource", given).stdout
        assert "crypto:Encrypt" in listed
        assert f"keys/{name}" in listed
        rows = answered(typed("audit", "report", "--resource", given, "--since", "1h", "--json"))["rows"]
        assert sum(row["event_count"] for row in rows) >= 2
    who = listed.splitlines()[1].split()[2]
    assert answered(typed("audit", "events", "--principal", who, "--resource", f"keys/{name}", "--json"))["events"]
    versions = answered(typed("audit", "events", "--version", f"keys/{name}/versions/1", "--json"))["events"]
    assert {event["action"] for event in versions} >= {"crypto:Encrypt"}
    nobody = typed("audit", "events", "--resource", f"keys/{name}-absent")
    assert (nobody.stdout, nobody.stderr) == ("", f"no events with resource keys/{name}-absent\n")


def test_events_are_found_by_the_names_that_lists_print(typed: Typed, client: Client, name: str) -> None:
    typed("key", "create", name)
    sealed = typed("encrypt", f"keys/{name}", "--text", "x").stdout
    short = typed("audit", "events", "--resource", name)
    assert ("crypto:Encrypt" in short.stdout, short.stderr) == (True, f"note: {name} is keys/{name}\n")
    assert answered(typed("audit", "events", "--version", f"{name}/versions/1", "--json"))["events"]
    assert typed("decrypt", "--key", f"keys/{name}", "--text", sealed.strip()).stdout == "x"
    other = f"{name}/db"
    typed("secret", "create", other, "--text", "v")
    assert typed("secret", "get", f"secrets/{other}/versions/1").stdout == "v"
    assert "secrets:GetSecretValue" in typed("audit", "events", "--resource", other).stdout
    refused = typed("audit", "events", "--resource", f"{name}-absent", status=Status.REFUSED).stderr
    assert ("(NAME_MALFORMED)" in refused, f"keys/{name}-absent or secrets/{name}-absent" in refused) == (True, True)
    client.secrets.create(name, b"v")
    both = typed("audit", "events", "--resource", name, status=Status.USAGE).stderr
    assert f"keys/{name} or secrets/{name}" in both


def test_nothing_is_wrapped_in_a_pipe(typed: Typed, name: str) -> None:
    typed("key", "create", name, "--description", "words " * 30)
    lines = typed("key", "list", "--filter", f"id_prefix = {name}").stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[0] == name
    made = typed("account", "create", f"{name}-shop").stdout
    (secret,) = [line.split()[-1] for line in made.splitlines() if "strongroom_ck_" in line]
    assert len(secret) == len("strongroom_ck_") + 52
    kept = typed("account", "create", f"{name}-kept", "--secret-out", "admin.secret")
    assert "strongroom_ck_" not in kept.stdout
    assert Path("admin.secret").read_text().startswith("strongroom_ck_")
    assert Path("admin.secret").stat().st_mode & 0o777 == 0o600


def test_a_secret_is_what_was_typed(typed: Typed, client: Client, name: str) -> None:
    typed("secret", "create", name, given="hunter2\n")
    assert client.secrets.get_value(name).value == b"hunter2"
    typed("secret", "put", name, "--keep-newline", given="hunter3\n")
    assert client.secrets.get_value(name).value == b"hunter3\n"
    assert typed("secret", "get", f"{name}/versions/1").stdout == "hunter2"
    for arguments in (("create", f"{name}-empty"), ("put", name)):
        refused = typed("secret", *arguments, given="", status=Status.REFUSED)
        assert "(FIELD_REQUIRED)" in refused.stderr
    assert run("secret", "describe", f"{name}-empty").exit_code == Status.REFUSED
    typed("secret", "delete", name, "--force", status=Status.USAGE)
    assert client.secrets.get_value(name, version=1).value == b"hunter2"
    typed("secret", "delete", name, "--force", "--yes")


def test_nothing_that_matches_is_told(typed: Typed, name: str) -> None:
    refused = typed("secret", "rotate", "--tag", f"team={name}", "--now", status=Status.REFUSED)
    assert "nothing was rotated" in refused.stderr
    assert typed("secret", "list", "--filter", f"tags.team = {name}").stderr.startswith("no secrets with filter")


def test_a_version_is_destroyed_after_a_while_and_only_when_somebody_says_so(typed: Typed, name: str) -> None:
    typed("key", "create", name)
    typed("key", "rotate", name)
    first = f"{name}/versions/1"
    typed("key", "version", "disable", first)
    refused = typed("key", "version", "destroy", first, status=Status.USAGE)
    assert "--yes" in refused.stderr
    planned = answered(typed("key", "version", "destroy", first, "--after", "7d", "--yes", "--json"))
    assert planned["state"] == "PENDING_DESTRUCTION"
    assert answered(typed("key", "version", "cancel-destruction", first, "--json"))["state"] == "DISABLED"
    assert answered(typed("key", "version", "destroy", first, "--now", "--yes", "--json"))["state"] == "DESTROYED"


def test_a_refusal_says_what_can_be_done(typed: Typed, name: str) -> None:
    typed("key", "create", name)
    typed("key", "disable", name)
    until(lambda: run("encrypt", name, "--text", "x").exit_code == Status.REFUSED, 5)
    told = typed("encrypt", name, "--text", "x", status=Status.REFUSED).stderr
    assert "`strongroom key enable KEY`" in told
    error = json.loads(typed("encrypt", name, "--text", "x", "--json", status=Status.REFUSED).stderr)["error"]
    assert (error["reason"], error["exit_status"]) == ("KEY_DISABLED", Status.REFUSED)
    assert answered(typed("access", "why", error["event_id"], "--json"))["event"]["reason"] == "KEY_DISABLED"
    odd = typed("key", "rotation-policy", name, "--every", "1d", status=Status.REFUSED).stderr
    assert "--every" in odd


def test_a_shell_is_offered_the_keys_that_there_are(typed: Typed, name: str) -> None:
    typed("key", "create", name)
    words = f"strongroom key describe {name[:8]}"
    environment = {**os.environ, "_STRONGROOM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
    command = [str(Path(sys.executable).parent / "strongroom")]
    offered = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert name in offered.splitlines()


def test_material_is_found_in_its_file(typed: Typed, name: str) -> None:
    typed("key", "create", name, "--spec", "EC_P256", "--usage", "SIGN_VERIFY", "--origin", "EXTERNAL")
    pem = subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey"], check=True, capture_output=True
    ).stdout
    Path("key.pem").write_bytes(b"\xef\xbb\xbfBag Attributes\n    friendlyName: mine\n" + pem)
    assert "(FIELD_REQUIRED)" in typed("key", "material", "import", name, given="", status=Status.REFUSED).stderr
    assert answered(typed("key", "material", "import", name, "--in", "key.pem", "--json"))["state"] == "ENABLED"
