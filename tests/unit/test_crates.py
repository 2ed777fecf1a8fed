"""What our crates depend on: locked, from the public index of crates alone, under licences that we may use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE, CLIENT = ROOT / "native", ROOT / "clients/rust"
_INDEX = "registry+https://github.com/rust-lang/crates.io-index"
_ALLOWED = frozenset(tomllib.loads((NATIVE / "deny.toml").read_text())["licenses"]["allow"])
# Users of the client build it themselves; foldhash is one of the tables that its generator of stubs uses.
_BUILDING_CLIENTS = frozenset({"Zlib"})

crates = pytest.mark.parametrize("crate", [NATIVE, CLIENT], ids=lambda crate: crate.name)


@crates
def test_every_version_is_locked_with_its_digest_and_comes_from_the_public_index(crate: Path) -> None:
    lock = tomllib.loads((crate / "Cargo.lock").read_text())
    own = tomllib.loads((crate / "Cargo.toml").read_text())["package"]["name"]
    others = [one for one in lock["package"] if one["name"] != own]
    assert others
    assert {one["source"] for one in others} == {_INDEX}
    assert all(re.fullmatch(r"[0-9a-f]{64}", one["checksum"]) for one in others)


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
@pytest.mark.parametrize(
    ("crate", "allowed"), [(NATIVE, _ALLOWED), (CLIENT, _ALLOWED | _BUILDING_CLIENTS)], ids=["native", "client"]
)
def test_every_licence_is_one_that_we_may_use(crate: Path, allowed: frozenset[str]) -> None:
    command = [
        "cargo",
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]
    found = subprocess.run(command, cwd=crate, check=True, capture_output=True, text=True, timeout=120)
    refused = {
        package["name"]: package["license"]
        for package in json.loads(found.stdout)["packages"]
        if not _is_allowed(package["license"] or "", allowed)
    }
    assert refused == {}


def _is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether one of the alternatives asks for nothing but what is allowed. An exception only adds to a licence."""
    for alternative in re.split(r"\bOR\b|/", expression.replace("(", " ").replace(")", " ")):
        parts = [part.split(" WITH ")[0].strip() for part in alternative.split(" AND ")]
        if parts and all(part in allowed for part in parts):
            return True
    return False


@crates
def test_nothing_of_the_crate_is_unsafe(crate: Path) -> None:
    manifest = tomllib.loads((crate / "Cargo.toml").read_text())
    assert manifest["lints"]["rust"]["unsafe_code"] in {"deny", "forbid"}
    sources = [path.read_text() for path in (crate / "src").rglob("*.rs")]
    assert sources
    assert not any("allow(unsafe_code" in source or re.search(r"\bunsafe\s*\{", source) for source in sources)
