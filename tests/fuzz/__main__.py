"""`python -m tests.fuzz header --seconds 600`: fuzzes with atheris, and keeps what reached new code in the corpus."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS

_LONGEST = 4096


def main() -> int:
    """Fuzzes one target, or all of them; 1 where one found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*TARGETS, []], metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=600, help="for each")
    parser.add_argument("--forget", action="store_true", help="leave the kept corpus as it is")
    options = parser.parse_args()
    return max([_fuzz(name, options.seconds, keeps=not options.forget) for name in options.names or TARGETS])


def _fuzz(name: str, seconds: int, *, keeps: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="strongroom-fuzz-") as place:
        directory = Path(place)
        corpus.write(name, directory)
        command = [sys.executable, "-m", "tests.fuzz.atheris_run", name, str(directory)]
        limits = [f"-max_total_time={seconds}", f"-max_len={_LONGEST}", f"-artifact_prefix={place}/found-"]
        # libFuzzer ends its process, so it has one of its own.
        ended = subprocess.run([*command, *limits], check=False)
        found = sorted(directory.glob("found-*"))
        for path in found:
            sys.stderr.write(f"{name}: {path.read_bytes().hex()}\n")
            path.unlink()
        if keeps:
            corpus.keep(name, directory)
    return 1 if found or ended.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
