"""Holds our crates to `native/deny.toml`: `python -m tools.cargo_deny` fails where one depends on what it may not have:
another licence, another source than the public index of crates, a version that is not said.

cargo-deny's database of known vulnerabilities is not asked: it is a git repository elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = tuple(ROOT / crate / "Cargo.toml" for crate in ("native", "native/fuzz", "clients/rust"))
_PLATFORM = "x86_64-unknown-linux-gnu"


def denying(manifest: Path) -> list[str]:
    """The command that fails where the crate of a manifest is not as it has to be."""
    program = Path(sys.executable).parent / "cargo-deny"
    # One platform alone: cargo fetches what the others need as well, and nothing here builds for them.
    which = ["--locked", "--all-features", f"--target={_PLATFORM}", f"--manifest-path={manifest}"]
    quiet = ["--log-level=error"]
    return [
        str(program),
        *quiet,
        *which,
        f"--config={ROOT / 'native/deny.toml'}",
        "check",
        "licenses",
        "bans",
        "sources",
    ]


if __name__ == "__main__":
    sys.exit(max(subprocess.run(denying(manifest), check=False).returncode for manifest in MANIFESTS))
