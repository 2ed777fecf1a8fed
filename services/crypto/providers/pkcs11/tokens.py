"""Which of a module's tokens is meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pkcs11


class NoSuchTokenError(Exception):
    """None of the tokens that are there fits, or several do; the message says which there are."""


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """A token by its label, its serial number, or both."""

    label: str | None = None
    serial: str | None = None

    def among(self, tokens: Iterable[pkcs11.Token]) -> pkcs11.Token:
        """The one that fits. Raises NoSuchTokenError."""
        present = list(tokens)
        fitting = [token for token in present if self._fits(token)]
        if len(fitting) != 1:
            there = "; ".join(describe(token) for token in fitting or present) or "none"
            raise NoSuchTokenError(f"{len(fitting) or 'no'} tokens fit {self}; there are: {there}")
        return fitting[0]

    def _fits(self, token: pkcs11.Token) -> bool:
        return self.label in (None, _text(token.label)) and self.serial in (None, _text(token.serial))

    def __str__(self) -> str:
        named = (("token_label", self.label), ("token_serial", self.serial))
        return " and ".join(f"{name} {value!r}" for name, value in named if value is not None)


def describe(token: pkcs11.Token) -> str:
    """Label, serial number and model."""
    return f"{_text(token.label)} {_text(token.serial)} {_text(token.model)}"


def _text(value: bytes | str) -> str:
    # Padded with blanks by the standard, with zero bytes by some modules.
    return (value.decode(errors="replace") if isinstance(value, bytes) else value).strip(" \0")
