"""What is fuzzed, and what must hold of every input: two readers agree, and nothing but a known refusal is raised."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from strongroom.encryption.message import whole
from strongroom.encryption.message.body import MessageKeys
from strongroom.encryption.message.header import read_header
from strongroom.encryption.streams.files import DecryptingFile
from strongroom.encryption.streams.opening import Opener
from strongroom.errors import StrongroomError
from tests.support.vectors import messages
from tests.support.vectors.documented import RefusedError

Outcome = TypeVar("Outcome")

_DATA_KEY = bytes(range(32))
_DIGEST = bytes(32)
_POWER = 6
_CONTENT = bytes(range(256)) * 2
_PREFIX = bytes(range(19))
_PIECE_SIZES = (1, 5, 79, 80, 81, 200, 1000)


def header(data: bytes) -> None:
    """The header of a message: it reads as the text says or is refused for the same reason, and has one encoding."""
    outcome = _outcome(lambda: read_header(io.BytesIO(data).read))
    expected = _outcome(lambda: messages.read_header(data))
    if isinstance(expected, str) or isinstance(outcome, str):
        assert outcome == expected, (outcome, expected)
        return
    assert (outcome.data, outcome.tag) == (expected.data, expected.tag)
    assert outcome.header.to_bytes() == outcome.data
    assert len(outcome.data) + len(outcome.tag) <= 65_580


def body(data: bytes) -> None:
    """The body of a message, changed as `data` says: whole, in pieces and anywhere it reads alike, or is refused."""
    changed = b"".join(_changed(data))
    keys = MessageKeys(_DATA_KEY, _POWER, _DIGEST)
    body_key, _ = messages.derived_keys(_DATA_KEY, _POWER, _DIGEST)
    expected = _outcome(lambda: messages.open_chunks(body_key, _POWER, changed))
    assert _outcome(lambda: whole.open_body(keys, changed, 0, 1 << _POWER)) == expected
    size = _PIECE_SIZES[len(data) % len(_PIECE_SIZES)]
    assert _outcome(lambda: _in_pieces(keys, changed, size)) == expected
    assert _outcome(lambda: DecryptingFile(io.BytesIO(changed), keys, 1 << _POWER).read()) == expected
    assert expected in (_CONTENT, "MESSAGE_ALTERED") or changed != _sound()


TARGETS: Mapping[str, Callable[[bytes], None]] = {"header": header, "body": body}


def _sound() -> bytes:
    body_key, _ = messages.derived_keys(_DATA_KEY, _POWER, _DIGEST)
    return _PREFIX + b"".join(messages.sealed_chunks(body_key, _PREFIX, _POWER, _CONTENT))


def _changed(data: bytes) -> Iterator[bytes]:
    """Parts of a sound body: each three bytes of `data` are where one begins, how long it is, and a change of a byte.

    No data at all is the sound body itself, so that what opens is fuzzed too.
    """
    sound = _sound()
    if not data:
        yield sound
    for at in range(0, len(data) - 2, 3):
        start, length, change = data[at] * len(sound) // 256, data[at + 1] * 4, data[at + 2]
        part = bytearray(sound[start : start + length])
        if part and change:
            part[change % len(part)] ^= change
        yield bytes(part)


def _in_pieces(keys: MessageKeys, sealed: bytes, size: int) -> bytes:
    opener = Opener(keys, 1 << _POWER)
    opened = bytearray()
    for start in range(0, len(sealed), size):
        for content in opener.update(sealed[start : start + size]):
            opened += content
    for content in opener.finish():
        opened += content
    return bytes(opened)


def _outcome(read: Callable[[], Outcome]) -> Outcome | str:
    """What was read, or the reason for which it is refused."""
    try:
        return read()
    except StrongroomError as refused:
        return refused.reason
    except RefusedError as refused:
        return str(refused)
