"""HashiCorp's own Go package, unchanged."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh

SOURCE = Path(__file__).with_name("vaultapi")


def test_health_transit_kv_and_login_by_hashicorp_s_go_package(
    mesh: Mesh, doors: Doors, token: str, name: str, tmp_path: Path
) -> None:
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    program = tmp_path / "vaultapi"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=SOURCE, check=True, timeout=300)
    role_id, secret_id = token.split(".")
    variables = {
        "VAULT_ADDR": doors.address,
        "VAULT_TOKEN": token,
        "VAULT_CACERT": str(mesh.authority.trust),
        "ROLE_ID": role_id,
        "SECRET_ID": secret_id,
    }
    done = subprocess.run(
        [program, name, f"go/{name}"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
