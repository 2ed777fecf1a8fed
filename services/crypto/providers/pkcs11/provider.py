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
    """A root key in a PKCS#11 token."""

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
        """The newest root version: what new blobs are sealed under."""
        return self._newest.get()

    def root_versions(self) -> list[RootVersion]:
        """Every root version that there is just now, oldest first."""
        with self._pool.session() as pooled:
            return [RootVersion(number) for number in root.versions_in(pooled.session)]

    def make_root(self, version: int) -> None:
        """Makes a root version, whole or not at all."""
        with self._pool.writing() as session:
            root.make(session, version)
        self._newest.forget()

    def destroy_root(self, version: int) -> None:
        """Destroys a root version for good; what is still under it is lost."""
        with self._pool.writing() as session:
            root.destroy(session, version)

    def seal(self, root_version: int, payload: bytes, associated_data: bytes) -> bytes:
        """12 bytes of nonce, the ciphertext under the root's sealing key, and 16 bytes of tag."""
        with self._pool.session() as pooled:
            return gcm.encrypt(pooled, pooled.root(seal_label(root_version)), payload, associated_data)

    def unseal(self, root_version: int, sealed: bytes, associated_data: bytes) -> bytes:
        """The payload of what `seal` made."""
        with self._pool.session() as pooled:
            return gcm.decrypt(pooled, pooled.root(seal_label(root_version)), sealed, associated_data)

    def make_hsm_key(self, spec: KeySpec.ValueType) -> MadeHsmKey:
        """Makes a key in the token."""
        root_version = self.root_version
        with self._pool.session(Work.GENERATION) as pooled:
            return keys.make(pooled, pooled.root(root_label(root_version)), root_version, spec)

    def import_hsm_key(self, spec: KeySpec.ValueType, material: bytes) -> MadeHsmKey:
        """Puts a key into the token, and answers it wrapped: a raw key, or PKCS#8 in DER."""
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
        """The key that was wrapped, for use inside the token, as one of the account's."""
        return Pkcs11Key(self._pool, self._telemetry, spec, usage, root_label(root_version), wrapped, account)

    def rewrap_hsm_key(self, spec: KeySpec.ValueType, root_version: int, wrapped: bytes) -> MadeHsmKey:
        """Wraps the key anew, under the newest root version, inside the token; no public half is answered."""
        newest = self.root_version
        with self._pool.session(Work.OPERATION) as pooled:
            old, new = pooled.root(root_label(root_version)), pooled.root(root_label(newest))
            return keys.rewrap(pooled, old, new, newest, spec, wrapped)

    def random(self, size: int) -> bytes:
        """`size` random bytes from the token where there is one."""
        with self._pool.session(Work.OPERATION) as pooled:
            return pooled.session.generate_random(size * 8)

    def check(self) -> None:
        """Raises PROVIDER_UNAVAILABLE unless the root key can be used."""
        self._pool.check()

    def close(self) -> None:
        """Lets go of the token."""
        self._pool.close()

    def _lacks_root(self) -> bool:
        try:
            return not self.root_versions()
        except StrongroomError:
            # Nobody knows before the token is there. Until then everything else is refused as well.
            return False
