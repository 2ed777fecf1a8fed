"""What our crates depend on: locked, from the public index of crates alone, under licences that we may use."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tools.cargo_deny import denying

ROOT = Path(__file__).parents[2]
NATIVE, FUZZ, CLIENT = ROOT / "native", ROOT / "native/fuzz", ROOT / "clients/rust"
_INDEX = "registry+https://github.com/rust-lang/crates.io-index"

crates = pytest.mark.parametrize("crate", [NATIVE, FUZZ, CLIENT], ids=lambda crate: crate.name)


@crates
def test_every_version_is_locked_with_its_digest_and_comes_from_the_public_index(crate: Path) -> None:
    lock = tomllib.loads((crate / "Cargo.lock").read_text())
    own = tomllib.loads((crate / "Cargo.toml").read_text())["package"]["name"]
    others = [one for one in lock["package"] if one["name"] != own]
    assert others
    assert {one["source"] for one in others} == {_INDEX}
    assert all(re.fullmatch(r"[0-9a-f]{64}", one["checksum"]) for one in others)


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
@crates
def test_licences_and_sources_are_those_that_we_may_use(crate: Path) -> None:
    done = subprocess.run(
        denying(crate / "Cargo.toml"), cwd=ROOT, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.parametrize("crate", [NATIVE, CLIENT], ids=lambda crate: crate.name)
def test_nothing_of_the_crate_is_unsafe(crate: Path) -> None:
    manifest = tomllib.loads((crate / "Cargo.toml").read_text())
    assert manifest["lints"]["rust"]["unsafe_code"] in {"deny", "forbid"}
    sources = [path.read_text() for path in (crate / "src").rglob("*.rs")]
    assert sources
    assert not any("allow(unsafe_code" in source or re.search(r"\bunsafe\s*\{", source) for source in sources)


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
@pytest.mark.parametrize(
    "command",
    [
        ("fmt", "--check"),
        ("clippy", "--quiet", "--locked", "--all-targets", "--", "--deny", "warnings"),
        ("test", "--quiet", "--locked"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.timeout(900)
def test_the_extension_is_formatted_has_no_lints_and_passes_its_own_tests(command: tuple[str, ...]) -> None:
    done = subprocess.run(["cargo", *command], cwd=NATIVE, check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
