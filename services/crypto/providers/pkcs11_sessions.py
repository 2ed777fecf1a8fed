"""A pool of sessions with one token. A session serves one thread at a time; the token logs in once."""

from __future__ import annotations

import logging
import queue
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11.exceptions import PKCS11Error, UserAlreadyLoggedIn

from services.crypto.providers import pkcs11_module
from services.crypto.providers.provider import SealBrokenError
from services.runtime.errors import Reason, StrongroomError

# python-pkcs11 adds the operations to its key classes at run time, unseen by type checkers.
TokenKey = Any

log = logging.getLogger(__name__)

_KEYS_PER_SESSION = 256
_WAIT_SECONDS = 1.5

# The input is at fault, the token and the session are well.
INPUT_ERRORS = (
    pkcs11.exceptions.EncryptedDataInvalid,
    pkcs11.exceptions.EncryptedDataLenRange,
    pkcs11.exceptions.WrappedKeyInvalid,
    pkcs11.exceptions.WrappedKeyLenRange,
)


@dataclass
class PooledSession:
    """A session, the root keys as it knows them, and the keys that were unwrapped into it."""

    session: pkcs11.Session
    roots: dict[str, TokenKey] = field(default_factory=dict)
    keys: OrderedDict[bytes, TokenKey] = field(default_factory=OrderedDict)

    def root(self, label: str) -> TokenKey:
        """A root key object by its label. Raises SealBrokenError when the token has none of that name."""
        key = self.roots.get(label)
        if key is None:
            found = list(
                self.session.get_objects(
                    {
                        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                        pkcs11.Attribute.LABEL: label,
                        pkcs11.Attribute.TOKEN: True,
                    }
                )
            )
            if len(found) != 1:
                raise SealBrokenError(f"the token holds {len(found)} keys labelled {label}")
            key = self.roots[label] = found[0]
        return key

    def remember(self, name: bytes, key: TokenKey) -> TokenKey:
        """Keeps an unwrapped key; the one unused for longest is destroyed when there are too many."""
        self.keys[name] = key
        if len(self.keys) > _KEYS_PER_SESSION:
            self.keys.popitem(last=False)[1].destroy()
        return key


class SessionPool:
    """At most `size` sessions, opened when first needed."""

    def __init__(self, module: Path, token_label: str, pin: str, size: int) -> None:
        self._token = _token(pkcs11_module.load(module), token_label)
        self.token = f"{self._token.label} {_text(self._token.serial)} {_text(self._token.model)}"
        self._pin = pin
        self._idle: queue.LifoQueue[PooledSession | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)
        # Keeps the token logged in while pooled sessions come and go.
        self._login = self._open(rw=False)

    @contextmanager
    def session(self) -> Iterator[PooledSession]:
        """Lends a session to this thread. Raises PROVIDER_UNAVAILABLE when none is free or the token fails."""
        try:
            pooled = self._idle.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            raise _unavailable("every HSM session is busy") from None
        try:
            if pooled is None:
                pooled = PooledSession(self._open(rw=False))
            yield pooled
        except INPUT_ERRORS as error:
            raise SealBrokenError from error
        except PKCS11Error as error:
            pooled = None  # whatever state it is in; a fresh one takes its place
            log.warning("HSM call failed", extra={"fields": {"error": type(error).__name__}})
            raise _unavailable(f"the HSM cannot be used ({type(error).__name__})") from error
        finally:
            self._idle.put(pooled)

    @contextmanager
    def writing(self) -> Iterator[pkcs11.Session]:
        """A read-write session, for making token objects."""
        session = self._open(rw=True)
        try:
            yield session
        finally:
            session.close()

    def close(self) -> None:
        """Ends the login, and with it every session's objects."""
        self._login.close()

    def _open(self, *, rw: bool) -> pkcs11.Session:
        try:
            return self._token.open(rw=rw, user_pin=self._pin)
        except UserAlreadyLoggedIn:
            return self._token.open(rw=rw)


def _token(module: Any, label: str) -> pkcs11.Token:
    try:
        token: pkcs11.Token = module.get_token(token_label=label)
    except PKCS11Error as error:
        raise SystemExit(f"no token labelled {label!r} in the PKCS#11 module ({type(error).__name__})") from error
    return token


def _text(value: bytes | str) -> str:
    return (value.decode(errors="replace") if isinstance(value, bytes) else value).strip()


def _unavailable(message: str) -> StrongroomError:
    return StrongroomError(Reason.PROVIDER_UNAVAILABLE, message, peer="hsm")
