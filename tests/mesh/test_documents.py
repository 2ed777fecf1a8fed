"""Every command and program that README and docs show does what they say, on one mesh like that of `make run`.

Its listeners are at an address of this machine that is not the loopback's, as for somebody at another machine.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from deploy.dev.__main__ import profile_of
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.profile import write_profile
from deploy.dev.topology import HOST
from tests.support.clients import client_of
from tests.support.documents import Block, blocks, whole
from tests.support.foreign_secrets import VAULT_TOKEN, Vault, serving
from tests.support.quick_cli import quick_commands

ROOT = Path(__file__).parents[2]
# Made from the parser; tests/unit/client/test_cli_tree.py parses its examples, which are of names that nobody has made.
_REFERENCE = ROOT / "docs/cli.md"
WRITTEN = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path != _REFERENCE]
PAGES = {str(path.relative_to(ROOT)): found for path in WRITTEN if (found := blocks(path, str(path.relative_to(ROOT))))}
RUN = {page: found for page, found in PAGES.items() if any(not block.not_run for block in found)}
SECONDS = 120


@dataclass(frozen=True)
class Shell:
    """Where scripts run: the mesh that they call, and their environment."""

    mesh: Mesh
    environment: Mapping[str, str]

    def run(self, page: str, script: str, directory: Path) -> subprocess.CompletedProcess[str]:
        """Runs a script in a directory of its own."""
        (directory / ".strongroom").symlink_to(self.mesh.directory.root)
        # The environment that `make run` makes is the one that the test runs in.
        (directory / ".venv/bin").mkdir(parents=True)
        (directory / ".venv/bin/activate").touch()
        config = directory / "profiles.toml"
        write_profile(config, profile_of(self.mesh))
        environment = {**self.environment, "STRONGROOM_CONFIG": str(config), "PAGE": page}
        return subprocess.run(
            ["bash", "-c", script],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


def outside_address() -> str:
    """An IPv4 address of this machine that others can reach; the loopback's where there is none."""
    addresses = [
        one.address for those in psutil.net_if_addrs().values() for one in those if one.family.name == "AF_INET"
    ]
    return next((address for address in addresses if not address.startswith(("127.", "169.254."))), HOST)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    directory = tmp_path_factory.mktemp("documents")
    options = MeshOptions(host=outside_address())
    with quick_commands(directory) as binaries, Mesh(directory / "mesh", options) as mesh:
        path = f"{binaries}:{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STRONGROOM_", "PYTHON"))}
        yield Shell(mesh, {**kept, "PATH": path, "HOME": str(directory)})


@pytest.mark.parametrize("page", RUN)
def test_what_a_page_shows_can_be_done(shell: Shell, page: str, tmp_path: Path) -> None:
    here = {"127.0.0.1:7101": shell.mesh.address("keystore", "public")}
    done = shell.run(page, whole(RUN[page], here), tmp_path)
    assert done.returncode == 0, f"{done.stderr[-2000:]}\n{(tmp_path / 'said').read_text()[-4000:]}"


def test_no_block_is_overlooked() -> None:
    for page in WRITTEN:
        fences = re.findall(r"^```(?:console|python|bash|sh|shell)$", page.read_text(), re.MULTILINE)
        assert len(fences) == len(PAGES.get(str(page.relative_to(ROOT)), [])), page
        assert re.findall(r"^    (?:\$ )?strongroom ", page.read_text(), re.MULTILINE) == [], page


def test_what_is_not_run_says_why() -> None:
    left_out = [block for found in PAGES.values() for block in found if block.not_run]
    assert [block.place for block in left_out if len(block.not_run) < 30] == []
    run = [block for found in RUN.values() for block in found if not block.not_run]
    assert len(run) > len(left_out)


def test_a_command_that_fails_is_told_with_its_place(shell: Shell, tmp_path: Path) -> None:
    block = Block(
        page="page.md", line=7, language="console", text="$ true\n$ strongroom key describe not-there\n$ true\n"
    )
    done = shell.run("page.md", whole([block], {}), tmp_path)
    assert done.returncode != 0
    assert done.stderr.strip().endswith("at page.md:7: strongroom key describe not-there")


def test_somebody_at_another_machine_needs_one_address_an_authority_and_a_credential(
    shell: Shell, tmp_path: Path
) -> None:
    if outside_address() == HOST:
        pytest.skip("this machine has no address but the loopback's")
    address, trust = shell.mesh.address("keystore", "public"), shell.mesh.authority.trust
    assert not address.startswith("127.")
    person = shell.mesh.authority.issue("user/ann-elsewhere")
    shell_script = f"""
        strongroom principal create users/ann-elsewhere --spiffe-id spiffe://strongroom.local/user/ann-elsewhere
        strongroom client-key create users/ann-elsewhere --secret-out ann.secret -o json > made
        CLIENT_KEY=$(grep -o 'ck-[a-z0-9]*' made | head -1)
        export STRONGROOM_CONFIG=$PWD/elsewhere/profiles.toml
        strongroom profile create live {address} --account default --trust {trust} --use
        strongroom login --client-key $CLIENT_KEY < ann.secret
        strongroom whoami
        find elsewhere -type f -exec stat -c 'mode %a %n' {{}} +
        strongroom logout
        strongroom profile create mine {address} --account default --trust {trust} \\
            --certificate {person.certificate} --key {person.key} --use
        strongroom whoami
        strongroom status
    """
    done = shell.run("elsewhere", f"set -euo pipefail\n{shell_script}", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"credential kind +(\w+)", done.stdout) == ["CLIENT_KEY", "CERTIFICATE"]
    modes = re.findall(r"^mode (\d+) ", done.stdout, re.MULTILINE)
    assert (len(modes) >= 2, set(modes)) == (True, {"600"})
    assert "strongroom_ck_" not in "".join(path.read_text() for path in (tmp_path / "elsewhere").rglob("*.*"))


def test_secrets_of_a_vault_are_copied_and_a_copy_goes_on(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("hvac", reason="hvac is not installed")
    vault = Vault({"Shop/DB": {"password": "p"}, "api": {"value": "t"}, "gone": None})
    (tmp_path / "token").write_text(VAULT_TOKEN)
    with serving(vault) as url:
        copy = f"strongroom migrate vault --address {url} --token-file token --prefix vault/"
        done = shell.run("migrate", f"{copy} --dry-run || true; {copy} || true; {copy}", tmp_path)
        assert done.returncode == 1
        assert re.findall(r"^(\w+) +(\S+) → (\S+)", done.stdout, re.MULTILINE) == [
            (outcome, name, secret)
            for outcomes in (("created", "created"), ("created", "created"), ("unchanged", "unchanged"))
            for outcome, name, secret in (
                (outcomes[0], "Shop/DB", "vault/shop/db"),
                (outcomes[1], "api", "vault/api"),
                ("failed", "gone", "vault/gone"),
            )
        ]
    with client_of(shell.mesh) as client:
        assert client.secrets.get_value("vault/shop/db", field="password").value == b"p"
        assert client.secrets.get("vault/api").tags["migrated-from"] == "vault:secret/api"
