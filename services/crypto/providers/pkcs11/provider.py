"""A root key in a PKCS#11 token, never extractable; keys of protection level HSM used inside it."""

from __future__ import annotations

from collections.abc import Sequence

from services.crypto.provider import HsmKey, MadeHsmKey, RootVersion
from services.crypto.providers.pkcs11 import gcm, keys, root
from services.crypto.providers.pkcs11.connection import Work
from services.crypto.providers.pkcs11.keys import Pkcs11Key
from services.crypto.providers.pkcs11.root import root_label, seal_label
from services.crypto.providers.pkcs11.sessions import SessionPool
from services.crypto.providers.refreshed import Refreshed
from services.runtime.errors import StrongroomError
from services.runtime.telemetry import Telemetry
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage


def initialize(pool: SessionPool) -> bool:
    """Makes the first root version in the token, once; answers whether it was made now. Raises PROVIDER_UNAVAILABLE."""
    with pool.writing() as session:
        if root.versions_in(session):
            return False
        root.make(session, 1)
        return True


class Pkcs11Provider:
    """See Provider."""

    name = "pkcs11"
    has_hsm = True
    hsm_specs: Sequence[KeySpec.ValueType] = keys.SPECS

    def __init__(self, pool: SessionPool, telemetry: Telemetry) -> None:
        self._pool = pool
        self._telemetry = telemetry
        self.token = pool.token
        if self._lacks_root():
            raise SystemExit("the token holds no root key: run `python -m services.crypto initialize --config FILE`")
        self._newest = Refreshed(lambda: self.root_versions()[-1].number)

    @property
    def root_version(self) -> int:
        """See Provider."""
        return self._newest.get()

    def root_versions(self) -> list[RootVersion]:
        """See Provider."""
        with self._pool.session() as pooled:
            return [RootVersion(number) for number in root.versions_in(pooled.session)]

    def make_root(self, version: int) -> None:
        """See Provider."""
        with self._pool.writing() as session:
            root.make(session, version)
        self._newest.forget()

    def destroy_root(self, version: int) -> None:
        """See Provider."""
        with self._pool.writing() as session:
            root.destroy(session, version)

    def seal(self, root_version: int, payload: bytes, associated_data: bytes) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            return gcm.encrypt(pooled, pooled.root(seal_label(root_version)), payload, associated_data)

    def unseal(self, root_version: int, sealed: bytes, associated_data: bytes) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            return gcm.decrypt(pooled, pooled.root(seal_label(root_version)), sealed, associated_data)

    def make_hsm_key(self, spec: KeySpec.ValueType) -> MadeHsmKey:
        """See Provider."""
        root_version = self.root_version
        with self._pool.session(Work.GENERATION) as pooled:
            return keys.make(pooled, pooled.root(root_label(root_version)), root_version, spec)

    def import_hsm_key(self, spec: KeySpec.ValueType, material: bytes) -> MadeHsmKey:
        """See Provider."""
        root_version = self.root_version
        with self._pool.session(Work.OPERATION) as pooled:
            return keys.put(pooled, pooled.root(root_label(root_version)), root_version, spec, material)

    def hsm_key(
        self,
        spec: KeySpec.ValueType,
        usage: KeyUsage.ValueType,
        root_version: int,
        wrapped: bytes,
        account: str = "",
    ) -> HsmKey:
        """See Provider."""
        return Pkcs11Key(self._pool, self._telemetry, spec, usage, root_label(root_version), wrapped, account)

    def rewrap_hsm_key(self, spec: KeySpec.ValueType, root_version: int, wrapped: bytes) -> MadeHsmKey:
        """See Provider."""
        newest = self.root_version
        with self._pool.session(Work.OPERATION) as pooled:
            old, new = pooled.root(root_label(root_version)), pooled.root(root_label(newest))
            return keys.rewrap(pooled, old, new, newest, spec, wrapped)

    def random(self, size: int) -> bytes:
        """See Provider."""
        with self._pool.session(Work.OPERATION) as pooled:
            return pooled.session.generate_random(size * 8)

    def check(self) -> None:
        """See Provider."""
        self._pool.check()

    def close(self) -> None:
        """See Provider."""
        self._pool.close()

    def _lacks_root(self) -> bool:
        try:
            return not self.root_versions()
        except StrongroomError:
            # Nobody knows before the token is there. Until then everything else is refused as well.
            return False
