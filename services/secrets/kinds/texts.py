"""Texts that go into connection strings, protocols and files of other systems."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A text member of a value."""

    most_bytes: int
    may_have: str = ""
    """Control characters that it may have in it."""


USERNAME, PASSWORD = Text(256), Text(4096)
LOGIN = {"username": USERNAME, "password": PASSWORD}
"""The members of a login by name and password."""


def is_plain(text: str, may_have: str = "") -> bool:
    """Whether a text can be encoded and has no control character in it but these."""
    return (text.isascii() and text.isprintable()) or not any(_is_odd(c) and c not in may_have for c in text)


def _is_odd(character: str) -> bool:
    code = ord(character)
    # Controls of ASCII and Latin-1, line and paragraph separators, and halves of characters.
    return code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029) or 0xD800 <= code < 0xE000
