"""Inputs that reach different code, kept as text: one line of hex each in `corpus/NAME.txt`."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from tests.support.vectors.own import vectors

HERE = Path(__file__).parent / "corpus"
_MOST = 600


def kept(name: str) -> Iterator[bytes]:
    """What is kept of a target's inputs."""
    path = HERE / f"{name}.txt"
    for line in path.read_text().split() if path.exists() else ():
        yield b"" if line == "-" else bytes.fromhex(line)


def write(name: str, directory: Path) -> None:
    """Lays the corpus out as files, with the vectors' messages for headers."""
    for data in (*kept(name), *(messages() if name == "header" else ())):
        (directory / sha256(data).hexdigest()).write_bytes(data)


def keep(name: str, directory: Path) -> None:
    """Keeps the shortest of what is in a directory."""
    found = {path.read_bytes() for path in directory.iterdir()} | set(kept(name))
    lines = sorted((data.hex() or "-" for data in found), key=lambda line: (len(line), line))
    HERE.mkdir(exist_ok=True)
    (HERE / f"{name}.txt").write_text("\n".join(lines[:_MOST]) + "\n")


def messages() -> Iterator[bytes]:
    """The short ones of the vectors."""
    for kind in ("valid", "refused"):
        for parameters in vectors("encrypted_message", kind):
            message = bytes.fromhex(parameters.values[0]["message"])
            if len(message) < 2000:
                yield message
