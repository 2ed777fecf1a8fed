"""Strongroom: client, encryption SDK and command line of the Strongroom key management service.

    from strongroom import Client

    with Client.from_profile() as client:
        sealed = client.encrypt("payments", b"4111 1111 1111 1111", {"tenant": "a"})
        opened = client.decrypt(sealed.ciphertext, {"tenant": "a"})

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

# As `typing` has it, which takes longer to load than all of this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from strongroom.calls.access.principals import OidcBinding
    from strongroom.calls.secrets.records import RotationPolicy
    from strongroom.client import Client
    from strongroom.credentials import (
        AssumedRole,
        CertificateSession,
        ClientCertificate,
        ClientKeySession,
        OidcTokenSession,
        SessionToken,
    )
    from strongroom.errors import StrongroomError
    from strongroom.files import decrypt_file, encrypt_file
    from strongroom.profiles import Profile
    from strongroom.secret_cache import SecretCache

_HOMES = {
    "Client": "strongroom.client",
    "ClientCertificate": "strongroom.credentials",
    "Profile": "strongroom.profiles",
    "CertificateSession": "strongroom.credentials",
    "ClientKeySession": "strongroom.credentials",
    "OidcTokenSession": "strongroom.credentials",
    "AssumedRole": "strongroom.credentials",
    "OidcBinding": "strongroom.calls.access.principals",
    "RotationPolicy": "strongroom.calls.secrets.records",
    "SessionToken": "strongroom.credentials",
    "SecretCache": "strongroom.secret_cache",
    "StrongroomError": "strongroom.errors",
    "decrypt_file": "strongroom.files",
    "encrypt_file": "strongroom.files",
}

__all__ = [
    "Client",
    "ClientCertificate",
    "Profile",
    "CertificateSession",
    "ClientKeySession",
    "OidcTokenSession",
    "AssumedRole",
    "OidcBinding",
    "RotationPolicy",
    "SessionToken",
    "SecretCache",
    "StrongroomError",
    "decrypt_file",
    "encrypt_file",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'strongroom' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
