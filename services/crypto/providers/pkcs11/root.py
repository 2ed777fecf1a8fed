"""The root key in a token.

A root version is two AES-256 keys of the token, each for one purpose: `strongroom-root-<n>` wraps keys
(AES-KWP, RFC 5649), `strongroom-seal-<n>` seals blobs (AES-256-GCM).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag
from pkcs11.exceptions import KeyHandleInvalid

from services.crypto.providers.pkcs11 import gcm, objects
from services.crypto.providers.pkcs11.connection import PooledSession

# Never leaves the token, not even wrapped.
GUARDED: Mapping[Attribute, Any] = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}

_ROOT = re.compile(r"strongroom-root-([1-9][0-9]*)")
_PROOF = b"the root key is here"


def root_label(version: int) -> str:
    """Of the key that wraps keys."""
    return f"strongroom-root-{version}"


def seal_label(version: int) -> str:
    """Of the key that seals blobs."""
    return f"strongroom-seal-{version}"


def versions_in(session: pkcs11.Session) -> list[int]:
    """The root versions that the token has, oldest first."""
    matches = (_ROOT.fullmatch(label) for label, _ in objects.kept(session))
    return sorted(int(match[1]) for match in matches if match)


def make(session: pkcs11.Session, version: int) -> None:
    """Makes a root version in a read-write session, whole or not at all."""
    # What a crash left of it before.
    objects.destroy(session, seal_label(version))
    # The root key last: it is the one whose presence says that the version is whole.
    _make_key(session, seal_label(version), MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT)
    _make_key(session, root_label(version), MechanismFlag.WRAP | MechanismFlag.UNWRAP)


def destroy(session: pkcs11.Session, version: int) -> None:
    """Destroys a root version in a read-write session."""
    # The root key last, as long as it is there the version is.
    for label in (seal_label(version), root_label(version)):
        objects.destroy(session, label)


@dataclass(frozen=True)
class _Proof:
    version: int
    sealed: bytes


class RootProbe:
    """Whether the token answers, and opens with its root key what it sealed before.

    What it opens is sealed once a process and root version, not once a probe: nonces under a root key are counted.
    """

    def __init__(self) -> None:
        self._proof: _Proof | None = None

    def __call__(self, pooled: PooledSession) -> None:
        """Raises PKCS11Error when the token cannot do so. A token without a root key, as before the first start, is
        well unless it had one."""
        pooled.session.generate_random(64)
        proof = self._proof
        found = pooled.token_keys(seal_label(proof.version)) if proof else []
        if proof is not None and found:
            gcm.decrypt_intact(found[0], proof.sealed, b"")
            return
        versions = versions_in(pooled.session)
        found = pooled.token_keys(seal_label(versions[-1])) if versions else []
        if found:
            self._proof = _Proof(versions[-1], gcm.encrypt(pooled, found[0], _PROOF, b""))
        elif versions or proof is not None:
            raise KeyHandleInvalid("the token has no root key any more")


def _make_key(session: pkcs11.Session, label: str, capabilities: MechanismFlag) -> None:
    session.generate_key(KeyType.AES, 256, label=label, store=True, capabilities=capabilities, template=dict(GUARDED))
