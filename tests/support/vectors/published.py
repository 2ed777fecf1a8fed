"""Vectors that others published, as PyPI's `cryptography_vectors` holds them.

Its larger files have a thousand vectors with a key each, and to import a key takes a third of a second: tests take a
few of them, always the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import cryptography_vectors
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Item = TypeVar("Item")

_PAIR = re.compile(r"(\w+) ?= ?(.*)")


@dataclass(frozen=True, slots=True)
class Record:
    """One vector: its `name = value` lines, and the bracketed lines above it that it falls under."""

    section: str
    fields: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.fields[name]

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def raw(self, name: str) -> bytes:
        """A value that is in hex."""
        return bytes.fromhex(self.fields[name])

    def number(self, name: str) -> int:
        """A number that is in hex."""
        return int(self.fields[name], 16)

    @property
    def valid(self) -> bool:
        """Whether its Result, which NIST writes as `P` or `F (why)`, is to be accepted."""
        return self.fields["Result"].startswith("P")


def text(path: str) -> str:
    """A whole file."""
    with cryptography_vectors.open_vector_file(path, "r") as file:
        return str(file.read())


def records(path: str) -> Iterator[Record]:
    """The records of a file in one of NIST's formats. One ends at an empty line, or where a name comes again.

    The section is the bracketed lines that came last, joined by spaces.
    """
    with cryptography_vectors.open_vector_file(path, "r") as file:
        yield from _records(file)


def _records(lines: Iterable[str]) -> Iterator[Record]:
    section: list[str] = []
    record, in_section = Record(""), False
    for line in map(str.strip, lines):
        pair = _PAIR.fullmatch(line)
        if record.fields and (not line or line.startswith("[") or (pair and pair[1] in record)):
            yield record
            record = Record(record.section)
        if line.startswith("["):
            section = [*section, line[1:-1]] if in_section else [line[1:-1]]
            record = Record(" ".join(section))
        elif pair:
            record.fields[pair[1]] = pair[2]
        elif line and not line.startswith("#"):
            record.fields[line] = ""
        in_section = line.startswith("[")
    if record.fields:
        yield record


def first(count: int, found: Iterator[Item]) -> list[Item]:
    """The first so many; fails when there are fewer."""
    taken = list(islice(found, count))
    if len(taken) != count:
        raise LookupError(f"{len(taken)} vectors, and not {count}")
    return taken


def pkcs8(private_key: PrivateKeyTypes) -> bytes:
    """A private key as it is imported."""
    return private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def flipped(data: bytes, at: int = -1) -> bytes:
    """The same bytes but for one bit, by default of the last one."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
