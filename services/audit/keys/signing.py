"""The keys that a log signs its checkpoints with, and their rotation."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit.keys.sealing import DAY_US
from services.audit.keys.service_keys import SIGNING_KEY, ServiceKeys
from services.audit.keys.store import PublicSigningKey, WrappedKeys
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from strongroom.tlog.notes import Signer

OVERLAP_DAYS = 30


class SigningKeys:
    """The newest key signs, and for 30 days the one before it too, so that who trusts that one can learn of the next.

    Old keys sign nothing more and stay known, so that old checkpoints stay valid.
    """

    def __init__(
        self, origin: str, rotation_days: int, store: WrappedKeys, service_keys: ServiceKeys, clock: Clock
    ) -> None:
        self._origin = origin
        self._rotation_us = rotation_days * DAY_US
        self._store = store
        self._service_keys = service_keys
        self._clock = clock
        self._signers: list[tuple[Signer, int]] = []
        self._refused = 0

    def renew(self) -> None:
        """Opens the keys, and makes a new one when it is due. Raises what `RootWrapping` does."""
        now_us = self._clock.now_us()
        known = list(self._store.signing_keys())
        if not known or now_us - known[0].created_us >= self._rotation_us:
            known.insert(0, self._make())
        self._signers = [(signer, key.created_us) for key in known if (signer := self._signer(key)) is not None][:2]
        self._refused = sum(self._signer(key) is None for key in known) + self._store.count_lost_signing_keys(
            SIGNING_KEY
        )

    def check(self) -> None:
        """Raises AUDIT_RECORD_REFUSED while the database has not the keys that the log signed with."""
        if self._refused:
            raise StrongroomError(
                Reason.AUDIT_RECORD_REFUSED,
                f"{self._refused} keys that the audit log signs with, or signed with, were changed behind its back",
            )

    def signers(self) -> list[Signer]:
        """Who signs now, the newest first; none until crypto has opened the keys."""
        signers = self._signers
        overlap = signers and self._clock.now_us() - signers[0][1] < OVERLAP_DAYS * DAY_US
        return [signer for signer, _ in (signers if overlap else signers[:1])]

    def known(self) -> list[PublicSigningKey]:
        """Every key that the log signs or signed with, newest first; none that somebody else put there."""
        return [key for key in self._store.signing_keys() if self._signer(key) is not None]

    def _make(self) -> PublicSigningKey:
        private_key = Ed25519PrivateKey.generate()
        stored = self._service_keys.make(SIGNING_KEY, SensitiveBytes(private_key.private_bytes_raw()))
        verifier_key = Signer(self._origin, private_key).verifier_key
        key = PublicSigningKey(stored.key_id, str(verifier_key), stored.created_us)
        self._store.insert_signing_key(key)
        return key

    def _signer(self, key: PublicSigningKey) -> Signer | None:
        """Who signs with a key; None where its private half is not there, or another's."""
        try:
            signer = Signer(self._origin, self._open(key.key_id))
        except StrongroomError as error:
            if error.reason not in (Reason.AUDIT_RECORD_REFUSED, Reason.KEY_MATERIAL_REFUSED):
                raise
            return None
        return signer if str(signer.verifier_key) == key.verifier_key else None

    def _open(self, key_id: bytes) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._service_keys.open(key_id).reveal())
