"""The extension's dependencies: locked, from the public index of crates alone, under licences that we may use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

CRATE = Path(__file__).parents[2] / "native"
_INDEX = "registry+https://github.com/rust-lang/crates.io-index"


def test_every_version_is_locked_with_its_digest_and_comes_from_the_public_index() -> None:
    lock = tomllib.loads((CRATE / "Cargo.lock").read_text())
    others = [one for one in lock["package"] if one["name"] != "strongroom-native"]
    assert others
    assert {one["source"] for one in others} == {_INDEX}
    assert all(re.fullmatch(r"[0-9a-f]{64}", one["checksum"]) for one in others)


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
def test_every_licence_is_one_that_we_may_use() -> None:
    command = [
        "cargo",
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]
    found = subprocess.run(command, cwd=CRATE, check=True, capture_output=True, text=True, timeout=120)
    allowed = set(tomllib.loads((CRATE / "deny.toml").read_text())["licenses"]["allow"])
    refused = {
        package["name"]: package["license"]
        for package in json.loads(found.stdout)["packages"]
        if not _is_allowed(package["license"] or "", allowed)
    }
    assert refused == {}


def _is_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether one of the alternatives asks for nothing but what is allowed. An exception only adds to a licence."""
    for alternative in re.split(r"\bOR\b|/", expression.replace("(", " ").replace(")", " ")):
        parts = [part.split(" WITH ")[0].strip() for part in alternative.split(" AND ")]
        if parts and all(part in allowed for part in parts):
            return True
    return False


def test_nothing_of_the_crate_is_unsafe() -> None:
    manifest = tomllib.loads((CRATE / "Cargo.toml").read_text())
    assert manifest["lints"]["rust"]["unsafe_code"] == "deny"
    sources = [path.read_text() for path in (CRATE / "src").glob("*.rs")]
    assert sources
    assert not any("allow(unsafe_code" in source or re.search(r"\bunsafe\s*\{", source) for source in sources)
