"""Spring Vault, unchanged: a secret by token and by AppRole, and transit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.dev.doors import Doors

SOURCE = Path(__file__).with_name("spring")


def test_spring_vault_reads_a_secret_and_encrypts(plain_doors: Doors, token: str, name: str, tmp_path: Path) -> None:
    if shutil.which("mvn") is None:
        pytest.skip("Maven is not installed")
    project = tmp_path / "spring"
    shutil.copytree(SOURCE, project)
    maven = ["mvn", "--quiet", "--batch-mode", "compile", "dependency:build-classpath", "-Dmdep.outputFile=classpath"]
    subprocess.run(maven, cwd=project, check=True, capture_output=True, timeout=300)
    path = f"target/classes:{(project / 'classpath').read_text().strip()}"
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", path, "test.ReadSecret"]
    done = subprocess.run(
        [*command, plain_doors.address, token, f"spring/{name}", name],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "app plaintext app\n"), done.stderr[-3000:]
