"""Builds Kryoptic, a PKCS#11 software token, which the tests use beside SoftHSM2: `python -m tools.kryoptic`.

It is on crates.io as a library for C, which nothing can depend on and `cargo install` does not install: so its source
is vendored by a package of ours that is empty, and built where it lies.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "1.5.4"
# What Strongroom uses, on OpenSSL 3.0: Ed25519 would need 3.2, ML-KEM and ML-DSA 3.5.
FEATURES = ("dynamic", "minimal")
DIRECTORY = Path(__file__).resolve().parent.parent / ".kryoptic"

_MODULE = DIRECTORY / VERSION / "libkryoptic_pkcs11.so"
_PACKAGE = f"""\
[package]
name = "source-of-kryoptic"
version = "0.0.0"
edition = "2024"

[lib]
path = "lib.rs"

[dependencies]
kryoptic = {{ version = "={VERSION}", default-features = false }}
"""


def find_module() -> Path | None:
    """The module, where it was built."""
    return _MODULE if _MODULE.exists() else None


def build() -> None:
    """Builds the module unless it is there: two minutes on two cores. Needs cargo, libclang, and the headers of OpenSSL
    and SQLite."""
    if find_module():
        return
    with tempfile.TemporaryDirectory(prefix="kryoptic-") as name:
        directory = Path(name)
        (directory / "Cargo.toml").write_text(_PACKAGE)
        (directory / "lib.rs").touch()
        _cargo("vendor", "--quiet", "--versioned-dirs", "vendor", directory=directory)
        source = directory / "vendor" / f"kryoptic-{VERSION}"
        features = ",".join(f"kryoptic-lib/{feature}" for feature in FEATURES)
        _cargo(
            *("build", "--quiet", "--release", "--locked", "--no-default-features", "--features", features),
            *("--target-dir", str(directory / "target")),
            directory=source,
        )
        _MODULE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(directory / "target" / "release" / _MODULE.name, _MODULE)


def _cargo(*arguments: str, directory: Path) -> None:
    subprocess.run(["cargo", *arguments], cwd=directory, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    build()
    sys.stdout.write(f"{_MODULE}\n")
