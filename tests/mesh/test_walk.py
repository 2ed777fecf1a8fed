"""A key's whole life at the command line: each kind of key, in software and in the token.

The commands run as the user types them, in this process; `test_command_line` types some of them in a terminal.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from deploy.dev.profile import write_profile
from deploy.dev.topology import SERVICES
from tests.support.cli import run
from tests.support.clients import until


@dataclass(frozen=True)
class Kind:
    """A kind of key, what it is used for, and how `openssl` makes material of it."""

    spec: str
    usage: str
    material: str
    in_softhsm: bool = True


KINDS = {
    "symmetric": Kind("AES_256", "ENCRYPT_DECRYPT", "openssl rand -out material 32"),
    "rsa": Kind("RSA_2048", "SIGN_VERIFY", "openssl genrsa -out material 2048"),
    "ec": Kind("EC_P256", "SIGN_VERIFY", "openssl ecparam -name prime256v1 -genkey -noout -out material"),
    # Debian's openssl knows no ML-DSA: its material is what Python's library makes.
    "ml-dsa": Kind("ML_DSA_65", "SIGN_VERIFY", "", in_softhsm=False),
}


class Shell:
    """Where the user types: a working directory, and the profile of a mesh."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def type(self, *arguments: str, given: bytes = b"", status: int = 0) -> bytes:
        """What a `strongroom` command prints: on standard output, or on standard error when it fails."""
        done = run(*arguments, stdin=given)
        assert done.exit_code == status, (arguments, done.output)
        return done.stderr_bytes if status == 3 and done.stderr_bytes else done.stdout_bytes

    def json(self, *arguments: str) -> Any:
        return json.loads(self.type(*arguments, "--json"))

    def settles(self, *arguments: str, given: bytes = b"", status: int = 0) -> None:
        """Waits until a command ends with this status: a change reaches every worker within a second."""
        until(lambda: run(*arguments, stdin=given).exit_code == status, 3.0)


@pytest.fixture
def shell(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
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
    return Shell(tmp_path)


class Uses:
    """What a kind of key is used for: something that an old version made, and what has to come of it."""

    def __init__(self, shell: Shell, kind: Kind) -> None:
        self._shell = shell
        self._encrypts = kind.usage == "ENCRYPT_DECRYPT"

    def make(self, key: str) -> bytes:
        """A ciphertext or a signature, in base64."""
        return self._shell.type(*self._making(key)).strip()

    def _making(self, key: str) -> tuple[str, ...]:
        how = ("encrypt", key, "--context", "step=walk") if self._encrypts else ("sign", key)
        return (*how, "--text", "attack at dawn")

    def arguments(self, version: str, made: bytes) -> tuple[str, ...]:
        """The command that checks what the version made."""
        if self._encrypts:
            return ("decrypt", "--context", "step=walk")
        return ("verify", version, "--signature", made.decode(), "--text", "attack at dawn")

    def check(self, version: str, made: bytes) -> None:
        """What the version made is still good."""
        printed = self._shell.type(*self.arguments(version, made), given=made)
        if self._encrypts:
            assert printed == b"attack at dawn"

    def settles_use(self, key: str) -> None:
        """Waits until a key whose material came just now can be used."""
        self._shell.settles(*self._making(key))

    def settles(self, version: str, made: bytes, status: int) -> None:
        """Waits until what the version made is good again, or no more."""
        self._shell.settles(*self.arguments(version, made), given=made, status=status)


def material(shell: Shell, kind: Kind) -> None:
    """Leaves a file `material` as the owner of a key would have it."""
    if kind.material:
        subprocess.run(kind.material.split(), cwd=shell.directory, check=True, capture_output=True)
        return
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = MLDSA65PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (shell.directory / "material").write_bytes(pem)


@pytest.mark.parametrize("level", ["SOFTWARE", "HSM"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_key_is_walked_through_its_life(shell: Shell, mesh: Mesh, name: str, kind: Kind, level: str) -> None:
    create = ("--spec", kind.spec, "--usage", kind.usage, "--protection-level", level)
    if level == "HSM" and not (kind.in_softhsm and mesh.provider == "pkcs11"):
        assert b"UNSUPPORTED_IN_HSM" in shell.type("key", "create", name, *create, status=3)
        return
    uses = Uses(shell, kind)

    created = shell.json("key", "create", name, *create)
    assert (created["state"], created["protection_level"]) == ("ENABLED", level)
    first, second = f"{name}/versions/1", f"{name}/versions/2"
    old = uses.make(name)
    uses.check(first, old)

    assert shell.json("key", "rotate", name)["name"].endswith(second)
    until(lambda: shell.json("key", "describe", name)["primary_version"] == 2)
    if kind.usage == "SIGN_VERIFY":
        until(lambda: shell.json("public-key", "get", name)["key_version"].endswith(second), 3.0)
        assert shell.type("public-key", "get", name) != shell.type("public-key", "get", first)
    new = uses.make(name)
    uses.check(first, old)
    uses.check(second, new)
    assert [one["state"] for one in shell.json("key", "version", "list", name)["versions"]] == ["ENABLED", "ENABLED"]

    shell.type("key", "version", "disable", first)
    uses.settles(first, old, status=3)
    shell.type("key", "version", "enable", first)
    uses.settles(first, old, status=0)

    planned = shell.json("key", "schedule-deletion", name, "--days", "7")
    assert planned["state"] == "PENDING_DELETION"
    uses.settles(first, old, status=3)
    assert b"KEY_STATE_INVALID" in shell.type("key", "enable", name, status=3)
    assert shell.json("key", "cancel-deletion", name)["state"] == "DISABLED"
    assert shell.json("key", "enable", name)["state"] == "ENABLED"
    uses.settles(first, old, status=0)
    uses.check(second, new)

    material(shell, kind)
    own = f"{name}-own"
    waiting = shell.json("key", "create", own, *create, "--origin", "EXTERNAL")
    assert waiting["state"] == "PENDING_IMPORT"
    bring = ("key", "material", "import", own, "--in", "material", "--method", "RSA_AES_KEY_WRAP_3072_SHA256")
    imported = shell.json(*bring)
    assert (imported["state"], imported["primary"]) == ("ENABLED", True)
    uses.settles_use(own)
    made = uses.make(own)
    uses.check(f"{own}/versions/1", made)
    assert shell.json("key", "material", "delete", own, "--yes")["state"] == "PENDING_IMPORT"
    uses.settles(f"{own}/versions/1", made, status=3)
    shell.type(*bring)
    uses.settles(f"{own}/versions/1", made, status=0)

    actions = {event["action"] for event in shell.json("audit", "events", "--resource", created["name"])["events"]}
    assert {"keystore:CreateKey", "keystore:CreateKeyVersion", "keystore:ScheduleKeyDeletion"} <= actions
    assert {"keystore:CancelKeyDeletion", "keystore:EnableKey"} <= actions
