"""The lock: `python -m tools.lock` pins what pyproject.toml asks for, `--check` says if the pins still fit.

Pins stay where they are until pyproject.toml asks for something else, or `--upgrade` is given.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
COMPILE = (
    *("pip", "compile", "--quiet", "--generate-hashes", "--no-emit-index-url", "--no-header"),
    *("--universal", "--python-version", "3.11", "--all-extras", "pyproject.toml"),
)


def compile_lock(output: Path, *, upgrade: bool = False) -> None:
    """Writes the lock to `output`, keeping the versions that `output` already pins unless `upgrade`.

    Raises subprocess.CalledProcessError where no set of versions fits; uv has then said why.
    """
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv), *COMPILE, *(["--upgrade"] if upgrade else []), "-o", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def stale_lines(committed: Path) -> list[str]:
    """The diff from the committed lock to the one that pyproject.toml asks for; empty where it fits."""
    with tempfile.TemporaryDirectory(prefix="strongroom-lock-") as temporary:
        fresh = Path(temporary) / committed.name
        if committed.exists():
            shutil.copyfile(committed, fresh)
        compile_lock(fresh)
        before = committed.read_text().splitlines() if committed.exists() else []
        after = fresh.read_text().splitlines()
    return list(difflib.unified_diff(before, after, "committed", "from pyproject.toml", n=0, lineterm=""))


def main(argv: Sequence[str] | None = None) -> int:
    """Locks, or with `--check` compares; 1 where the lock does not fit pyproject.toml."""
    parser = argparse.ArgumentParser(prog="python -m tools.lock", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the lock does not fit")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args(argv)
    try:
        if not options.check:
            compile_lock(LOCK, upgrade=options.upgrade)
            return 0
        stale = stale_lines(LOCK)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    if stale:
        sys.stderr.write("\n".join([*stale, f"{LOCK.name} is stale: run `make lock`", ""]))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
