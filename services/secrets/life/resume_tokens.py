"""Resume tokens of watches: the number of a change, and what tells it from another of the same number.

Changes have their numbers mesh-wide, and how many others make is none of a watcher's business: tokens are encrypted,
each account's under a key of its own. Two tokens of one place do not look alike, or they would say that nobody has
changed anything in between.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.errors import invalid
from services.runtime.storage.row_seals import RowSeals
from services.secrets.core.changes import Mark

_LABEL = "resume tokens of watches"
_FORMAT = b"\x03"
# Of before, in the clear: by what is made of one that somebody made up he would learn the number.
_CLEAR = {b"\x01": 9, b"\x02": 17}
_NUMBER_BYTES, _DIGEST_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 8, 12, 16
_BYTES = len(_FORMAT) + _NONCE_BYTES + _NUMBER_BYTES + _DIGEST_BYTES + _TAG_BYTES


@dataclass(frozen=True, slots=True)
class Place:
    """How far a watcher has heard."""

    revision: int
    """The number of the last change that it was told of, or that concerned nobody it watches."""
    digest: bytes = b""
    """Of that change; empty where nothing is known of it."""

    @classmethod
    def of(cls, revision: int, mark: Mark) -> Place:
        """The place of the change of this number and mark."""
        return cls(revision, sha256(mark).digest()[:_DIGEST_BYTES] if mark is not None else b"")


class ResumeTokens:
    """Those of one account's watchers."""

    def __init__(self, seals: RowSeals, account: str) -> None:
        """Raises RECORD_KEY_UNAVAILABLE."""
        self._cipher = AESGCM(seals.derived(_LABEL, account.encode()))

    def encode(self, place: Place) -> str:
        """The token of a place."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        content = place.revision.to_bytes(_NUMBER_BYTES, "big") + place.digest.ljust(_DIGEST_BYTES, b"\0")
        return base64.urlsafe_b64encode(_FORMAT + nonce + self._cipher.encrypt(nonce, content, _FORMAT)).decode()

    def decode(self, token: str) -> Place | None:
        """The place; None without a token, or for one of which nothing is known any more, whose watcher begins anew.
        Raises FIELD_INVALID for what is of another form."""
        if not token:
            return None
        try:
            content = base64.b64decode(token, b"-_", validate=True)
        except (binascii.Error, ValueError):
            content = b""
        if len(content) == _CLEAR.get(content[:1]):
            return None
        if len(content) != _BYTES or not content.startswith(_FORMAT):
            raise invalid("resume_token", "is not one that WatchSecret gave")
        nonce, sealed = content[1 : 1 + _NONCE_BYTES], content[1 + _NONCE_BYTES :]
        try:
            opened = self._cipher.decrypt(nonce, sealed, _FORMAT)
        except InvalidTag:
            return None
        number, digest = opened[:_NUMBER_BYTES], opened[_NUMBER_BYTES:]
        return Place(int.from_bytes(number, "big"), digest if any(digest) else b"")
