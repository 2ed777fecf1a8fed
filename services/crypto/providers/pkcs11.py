"""A root key in a PKCS#11 token, never extractable; keys of protection level HSM used inside it.

A root version is two AES-256 keys of the token, each for one purpose: `strongroom-root-<n>` wraps keys
(AES-KWP, RFC 5649), `strongroom-seal-<n>` seals blobs (AES-256-GCM).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass

from services.crypto.providers import pkcs11_gcm, pkcs11_keys
from services.crypto.providers.pkcs11_keys import Pkcs11Key
from services.crypto.providers.pkcs11_sessions import SessionPool
from services.crypto.providers.provider import HsmKey, MadeHsmKey, RootVersion
from services.crypto.providers.refreshed import Refreshed
from services.runtime.telemetry import Telemetry
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage

_ROOT = re.compile(r"strongroom-root-([1-9][0-9]*)")


def initialize(pool: SessionPool) -> bool:
    """Makes the first root version in the token, once; answers whether it was made now."""
    with pool.writing() as session:
        if _root_versions(session):
            return False
        _make_root(session, 1)
        return True


class Pkcs11Provider:
    """See Provider."""

    name = "pkcs11"
    has_hsm = True
    hsm_specs: Sequence[KeySpec.ValueType] = pkcs11_keys.SPECS

    def __init__(self, pool: SessionPool, telemetry: Telemetry) -> None:
        self._pool = pool
        self._telemetry = telemetry
        self.token = pool.token
        if not self.root_versions():
            raise SystemExit("the token holds no root key: run `python -m services.crypto initialize --config FILE`")
        self._newest = Refreshed(lambda: self.root_versions()[-1].number)

    @property
    def root_version(self) -> int:
        """See Provider."""
        return self._newest.get()

    def root_versions(self) -> list[RootVersion]:
        """See Provider."""
        with self._pool.session() as pooled:
            return [RootVersion(number) for number in sorted(_root_versions(pooled.session))]

    def make_root(self, version: int) -> None:
        """See Provider."""
        with self._pool.writing() as session:
            _make_root(session, version)
        self._newest.forget()

    def destroy_root(self, version: int) -> None:
        """See Provider."""
        with self._pool.writing() as session:
            # The root key last, as long as it is there the version is.
            for label in (_seal_label(version), _root_label(version)):
                _destroy(session, label)

    def seal(self, root_version: int, payload: bytes, associated_data: bytes) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            return pkcs11_gcm.encrypt(pooled.session, pooled.root(_seal_label(root_version)), payload, associated_data)

    def unseal(self, root_version: int, sealed: bytes, associated_data: bytes) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            return pkcs11_gcm.decrypt(pooled.root(_seal_label(root_version)), sealed, associated_data)

    def make_hsm_key(self, spec: KeySpec.ValueType) -> MadeHsmKey:
        """See Provider."""
        root_version = self.root_version
        with self._pool.session() as pooled:
            return pkcs11_keys.make(pooled.session, pooled.root(_root_label(root_version)), root_version, spec)

    def import_hsm_key(self, spec: KeySpec.ValueType, material: bytes) -> MadeHsmKey:
        """See Provider."""
        root_version = self.root_version
        with self._pool.session() as pooled:
            return pkcs11_keys.put(pooled.session, pooled.root(_root_label(root_version)), root_version, spec, material)

    def hsm_key(self, spec: KeySpec.ValueType, usage: KeyUsage.ValueType, root_version: int, wrapped: bytes) -> HsmKey:
        """See Provider."""
        return Pkcs11Key(self._pool, self._telemetry, spec, usage, _root_label(root_version), wrapped)

    def rewrap_hsm_key(self, spec: KeySpec.ValueType, root_version: int, wrapped: bytes) -> MadeHsmKey:
        """See Provider."""
        newest = self.root_version
        with self._pool.session() as pooled:
            old, new = pooled.root(_root_label(root_version)), pooled.root(_root_label(newest))
            return pkcs11_keys.rewrap(old, new, newest, spec, wrapped)

    def random(self, size: int) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            return pooled.session.generate_random(size * 8)

    def check(self) -> None:
        """See Provider."""
        with self._pool.session() as pooled:
            pooled.session.generate_random(8)

    def close(self) -> None:
        """See Provider."""
        self._pool.close()


def _make_root(session: pkcs11.Session, version: int) -> None:
    # What a crash left of it before.
    _destroy(session, _seal_label(version))
    # The root key last: it is the one whose presence says that the version is whole.
    _make_root_key(session, _seal_label(version), MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT)
    _make_root_key(session, _root_label(version), MechanismFlag.WRAP | MechanismFlag.UNWRAP)


def _destroy(session: pkcs11.Session, label: str) -> None:
    for key in session.get_objects(
        {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label, Attribute.TOKEN: True}
    ):
        key.destroy()


def _make_root_key(session: pkcs11.Session, label: str, capabilities: MechanismFlag) -> None:
    session.generate_key(
        KeyType.AES, 256, label=label, store=True, capabilities=capabilities, template=dict(pkcs11_keys.GUARDED)
    )


def _root_versions(session: pkcs11.Session) -> list[int]:
    labels = (
        key.label
        for key in session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.TOKEN: True})
        if isinstance(key, pkcs11.SecretKey)
    )
    return [int(match[1]) for match in map(_ROOT.fullmatch, labels) if match]


def _root_label(version: int) -> str:
    return f"strongroom-root-{version}"


def _seal_label(version: int) -> str:
    return f"strongroom-seal-{version}"
