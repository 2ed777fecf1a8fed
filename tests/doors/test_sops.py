"""SOPS, whole and unchanged: a file is encrypted, opened, edited and rotated under a key of the mesh."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.doors.programs import SOPS
from tests.support import access

CLEAR = "password: correct-horse\nplaces:\n    - Berlin\n    - Paris\n"


@dataclass(frozen=True)
class Sops:
    """The command, for a caller of the door."""

    program: Path
    variables: dict[str, str]
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What it makes of its arguments."""
        return subprocess.run(
            [self.program, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def output(self, *arguments: str) -> str:
        """What it writes. Fails the test where it fails."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def machine(administrator: Client) -> str:
    """Who encrypts and decrypts."""
    actions = ", ".join(f'Strongroom::Action::"crypto:{action}"' for action in ("Encrypt", "Decrypt"))
    return access.workload(administrator, permits=f"permit (principal, action in [{actions}], resource);")


@pytest.fixture
def sops(mesh: Mesh, doors: Doors, administrator: Client, machine: str, tmp_path: Path) -> Sops:
    credential = access.client_key(administrator, machine)
    variables = {
        "VAULT_ADDR": doors.address,
        "VAULT_TOKEN": f"{credential.name.rpartition('/')[2]}.{credential.secret}",
        "VAULT_CACERT": str(mesh.authority.trust),
        # Its own folder: it looks for keys of other kinds there.
        "HOME": str(tmp_path),
    }
    return Sops(SOPS.built(), variables, tmp_path)


def wrapped_in(text: str) -> str:
    """The data key of a file, as the door wrapped it."""
    return next(line.split("enc: ", 1)[1] for line in text.splitlines() if "enc: vault:v" in line)


def test_sops_encrypts_opens_and_rotates_a_file(
    sops: Sops, doors: Doors, administrator: Client, machine: str, name: str
) -> None:
    administrator.keys.create(name)
    clear, file = sops.folder / "clear.yaml", sops.folder / "secrets.yaml"
    clear.write_text(CLEAR)
    uri = f"{doors.address}/v1/transit/keys/{name}"
    file.write_text(sops.output("encrypt", "--hc-vault-transit", uri, str(clear)))
    first = file.read_text()
    assert "correct-horse" not in first
    assert wrapped_in(first).startswith("vault:v1:")
    assert sops.output("decrypt", "secrets.yaml") == CLEAR

    # A new data key, under the version that is now the key's primary one.
    administrator.keys.rotate(name)
    assert sops.output("decrypt", "secrets.yaml") == CLEAR
    access.settle()
    sops.output("rotate", "--in-place", "secrets.yaml")
    assert wrapped_in(file.read_text()).startswith("vault:v2:")
    assert sops.output("decrypt", "secrets.yaml") == CLEAR
    sops.output("set", "secrets.yaml", '["password"]', '"battery-staple"')
    assert sops.output("decrypt", "--extract", '["password"]', "secrets.yaml") == "battery-staple"

    key = f"accounts/default/keys/{name}"
    events = list(administrator.audit.events.list(principal=machine, resource=key, limit=50))
    assert {(event.action, event.via_service) for event in events} == {
        ("crypto:Encrypt", "services/doors"),
        ("crypto:Decrypt", "services/doors"),
    }

    administrator.keys.disable(name)
    access.settle()
    refused = sops.run("decrypt", "secrets.yaml")
    assert refused.returncode != 0
    assert "KEY_DISABLED" in refused.stderr
    administrator.keys.enable(name)
