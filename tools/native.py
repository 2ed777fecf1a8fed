"""Builds the listener in native code and installs it beside the services: `python -m tools.native`.

Nothing needs it: where it is not built, grpcio's server takes connections.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CRATE = Path(__file__).resolve().parent.parent / "native"
_JOBS = 2


def build(wheels: Path) -> Path:
    """Builds the wheel, with the versions that Cargo.lock names. Raises subprocess.CalledProcessError."""
    maturin = Path(sys.executable).parent / "maturin"
    command = [str(maturin), "build", "--quiet", "--release", "--jobs", str(_JOBS), "--interpreter", sys.executable]
    subprocess.run([*command, "--out", str(wheels)], cwd=CRATE, check=True)
    (wheel,) = wheels.glob("*.whl")
    return wheel


def install(wheel: Path) -> None:
    """Installs a wheel into the environment that runs this."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--force-reinstall", "--no-deps", str(wheel)], check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="strongroom-native-") as directory:
        install(build(Path(directory)))
