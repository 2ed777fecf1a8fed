"""Programs of others that speak Vault's API, whole and unchanged, built out of their Go modules.

`python -m tests.doors.programs` builds those that the usual tests run, so that none waits for it.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULES = Path(__file__).with_name("modules")
CACHE = Path(__file__).parents[2] / ".cache" / "doors"
"""What is built stays here from one session to the next."""

_SECONDS = 540


@dataclass(frozen=True)
class Program:
    """A program; the folder of its name in `modules` says by its go.mod which version, and go.sum holds it."""

    name: str
    package: str
    flags: tuple[str, ...] = ()

    def built(self) -> Path:
        """The program, built unless it is there. Skips the test where Go is not installed."""
        if shutil.which("go") is None:
            pytest.skip(f"Go is not installed, of which {self.name} is built")
        source = MODULES / self.name
        CACHE.mkdir(parents=True, exist_ok=True)
        program = CACHE / self.name
        with (CACHE / f"{self.name}.lock").open("w") as lock:
            # Several processes run tests; one of them builds.
            fcntl.flock(lock, fcntl.LOCK_EX)
            stamp = CACHE / f"{self.name}.sum"
            wanted = (source / "go.mod").read_bytes() + (source / "go.sum").read_bytes() + repr(self).encode()
            if not program.exists() or not stamp.exists() or stamp.read_bytes() != wanted:
                self._build(source, program)
                stamp.write_bytes(wanted)
        return program

    def _build(self, source: Path, program: Path) -> None:
        command = ["go", "build", "-trimpath", *self.flags, "-o", str(program), self.package]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=_SECONDS)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stderr[-6000:]}"


SOPS = Program("sops", "github.com/getsops/sops/v3/cmd/sops")
SEAWEEDFS = Program("seaweedfs", "github.com/seaweedfs/seaweedfs/weed")

USUAL = (SOPS,)

if __name__ == "__main__":
    for one in USUAL:
        one.built()
