"""CRC32C of what crosses the network: put into every request, verified in every answer.

The contracts say where: a field `x_crc32c` holds the checksum (Castagnoli, RFC 3720 appendix B.4) of `x` beside it,
which is a field of bytes, or a oneof of such.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from google.protobuf.descriptor import Descriptor
from google_crc32c import value as crc32c

if TYPE_CHECKING:
    from google.protobuf.message import Message

_SUFFIX = "_crc32c"


@dataclass(frozen=True, slots=True)
class _Sum:
    """A checksum of a type of message: its field, and whether that is optional; what it is of, always there or one of
    several fields."""

    field: str
    optional: bool
    subject: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a type of message has checksums: itself, and in its parts, which may be repeated."""

    sums: tuple[_Sum, ...]
    parts: tuple[tuple[str, bool], ...]


def add(request: Message) -> None:
    """Sets every checksum of a request, those of its items too."""
    for message, checksum in _checksums(request):
        data = _data(message, checksum)
        if data is not None:
            setattr(message, checksum.field, crc32c(data))


def corrupted(response: Message) -> str:
    """The first field of an answer that is not what its checksum says; empty when each is, or has none."""
    for message, checksum in _checksums(response):
        given = not checksum.optional or message.HasField(checksum.field)
        if given and getattr(message, checksum.field) != crc32c(_data(message, checksum) or b""):
            return checksum.field.removesuffix(_SUFFIX)
    return ""


def _checksums(message: Message) -> Iterator[tuple[Message, _Sum]]:
    layout = _layout(message.DESCRIPTOR)
    for checksum in layout.sums:
        yield message, checksum
    for field, repeated in layout.parts:
        if repeated:
            for part in getattr(message, field):
                yield from _checksums(part)
        elif message.HasField(field):
            yield from _checksums(getattr(message, field))


def _data(message: Message, checksum: _Sum) -> bytes | None:
    """What a checksum is of; None where that is one of several fields and none is set."""
    subject = checksum.subject
    if checksum.choices:
        subject = next(filter(message.HasField, checksum.choices), "")
    return getattr(message, subject) if subject else None


@cache
def _layout(descriptor: Descriptor) -> _Layout:
    sums, parts = [], []
    for field in descriptor.fields:
        if field.name.endswith(_SUFFIX):
            subject = field.name.removesuffix(_SUFFIX)
            sums.append(_Sum(field.name, field.has_presence, subject, _choices(descriptor, subject)))
        elif field.message_type is not None and field.message_type.file.package == descriptor.file.package:
            layout = _layout(field.message_type)
            if layout.sums or layout.parts:
                parts.append((field.name, field.is_repeated))
    return _Layout(tuple(sums), tuple(parts))


def _choices(descriptor: Descriptor, subject: str) -> tuple[str, ...]:
    oneof = descriptor.oneofs_by_name.get(subject)
    if oneof is None:
        # One that may be absent, as the ciphertext of an outcome is.
        alone = descriptor.fields_by_name[subject].has_presence
        return (subject,) if alone else ()
    return tuple(field.name for field in oneof.fields)
