"""Fuzzes what the native listener reads before Python has it: `python -m tests.fuzz.native_calls --seconds 600`.

The target is native/fuzz (libFuzzer, of LLVM's coverage alone, so that any cargo builds it; `cargo fuzz run calls` does
too). What reached new code is kept in the corpus.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import corpus

CRATE = Path(__file__).resolve().parents[2] / "native/fuzz"
NAME = "native_calls"
_TARGET = "x86_64-unknown-linux-gnu"
_LONGEST = 4096
_COVERAGE = ("level=4", "inline-8bit-counters", "pc-table", "trace-compares")
_FLAGS = (
    "-Cpasses=sancov-module",
    "-Ccodegen-units=1",
    *(f"-Cllvm-args=-sanitizer-coverage-{one}" for one in _COVERAGE),
)
# One of everything that the target tells apart.
_FIRST = (
    b"",
    b"content-type:application/grpc+proto\ngrpc-timeout:10S\nte:trailers\nx-bin:AQ==\nx-bin:AQ\nx:y\n\n\0\0\0\0\x02ab",
    b"grpc-timeout:99999999H\ngrpc-message:a 100%25 %C3%BC%0\n\n\0\0\0\0\0\0\0\0\0\x01a\x01\0\0\0\0",
    b"grpc-encoding:gzip\nauthorization:Bearer a.b.c\nx-bin:*\n\n\0\0\0\4\x01\2",
)


def _built() -> Path:
    place = CRATE.parent / "target/fuzz"
    command = ["cargo", "build", "--quiet", "--locked", "--release", f"--target={_TARGET}", f"--target-dir={place}"]
    environment = {**os.environ, "RUSTFLAGS": " ".join(_FLAGS)}
    subprocess.run([*command, "--jobs=2"], cwd=CRATE, env=environment, check=True)
    return place / _TARGET / "release/calls"


def main() -> int:
    """Fuzzes; 1 where it found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.native_calls", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    seconds = parser.parse_args().seconds
    program = str(_built())
    with tempfile.TemporaryDirectory(prefix="strongroom-fuzz-") as place:
        found, fewer = Path(place) / "found", Path(place) / "fewer"
        for directory in (found, fewer):
            directory.mkdir()
        corpus.write(NAME, found)
        for number, first in enumerate(_FIRST):
            (found / f"first-{number}").write_bytes(first)
        limits = [f"-max_len={_LONGEST}", f"-artifact_prefix={place}/wrong-"]
        ended = subprocess.run([program, str(found), f"-max_total_time={seconds}", *limits], check=False)
        wrong = sorted(Path(place).glob("wrong-*"))
        for path in wrong:
            sys.stderr.write(f"{path.name}: {path.read_bytes().hex()}\n")
        # Of those that reach the same, one.
        subprocess.run([program, "-merge=1", *limits, str(fewer), str(found)], check=False, stderr=subprocess.DEVNULL)
        corpus.keep(NAME, fewer)
    return 1 if wrong or ended.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
