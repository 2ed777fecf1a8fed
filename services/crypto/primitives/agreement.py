"""Diffie-Hellman key agreement (NIST SP 800-56A, RFC 7748) with the material of one key version."""

from __future__ import annotations

from abc import ABC, abstractmethod

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.crypto.primitives.private_keys import PrivateKey
from services.crypto.primitives.public_keys import Asymmetric, PublicKey, invalid
from services.crypto.provider import HsmKey

_PEER = "peer_public_key"


class Agreement(Asymmetric, ABC):
    """Derives the secret that it shares with the owner of another key of the same curve."""

    @abstractmethod
    def derive(self, peer: PublicKey) -> bytes:
        """The raw shared secret, as long as the curve's field. Raises PUBLIC_KEY_INVALID for another curve's key, and
        for one that makes the secret predictable."""

    def prove(self) -> None:
        """Derives once, with itself."""
        self.derive(self.public_key)


class SoftwareAgreement(Agreement):
    """A SOFTWARE key."""

    def __init__(self, key: PrivateKey, public_key: PublicKey) -> None:
        super().__init__(public_key)
        self._key = key

    def derive(self, peer: PublicKey) -> bytes:
        """The raw shared secret, as long as the curve's field."""
        if isinstance(self._key, x25519.X25519PrivateKey) and isinstance(peer, x25519.X25519PublicKey):
            try:
                return self._key.exchange(peer)
            except ValueError as error:  # a point of small order: the secret would be all zeros
                raise invalid(_PEER, "is a point of small order") from error
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.exchange(ec.ECDH(), _on_curve(peer, self._key.curve))
        raise invalid(_PEER, "is not on this key's curve")


class TokenAgreement(Agreement):
    """An HSM key, of a NIST curve."""

    def __init__(self, key: HsmKey, public_key: ec.EllipticCurvePublicKey) -> None:
        super().__init__(public_key)
        self._curve = public_key.curve
        self._key = key

    def derive(self, peer: PublicKey) -> bytes:
        """The raw shared secret, as long as the curve's field."""
        point = _on_curve(peer, self._curve).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return self._key.agree(point)


def agreement(private_key: PrivateKey | HsmKey, public_key: PublicKey) -> Agreement:
    """The agreement of a key version, wherever its material is."""
    if isinstance(private_key, HsmKey):
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise TypeError(f"{type(public_key).__name__} does not agree in a token")
        return TokenAgreement(private_key, public_key)
    return SoftwareAgreement(private_key, public_key)


def _on_curve(peer: PublicKey, curve: ec.EllipticCurve) -> ec.EllipticCurvePublicKey:
    if isinstance(peer, ec.EllipticCurvePublicKey) and peer.curve.name == curve.name:
        return peer
    raise invalid(_PEER, "is not on this key's curve")
