"""SSH keys as targets and values hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncssh
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from services.runtime.outside import key_screening

KEY_TYPES: dict[str, dict[str, Any]] = {
    "ed25519": {"alg_name": "ssh-ed25519"},
    "rsa-3072": {"alg_name": "ssh-rsa", "key_size": 3072},
    "rsa-4096": {"alg_name": "ssh-rsa", "key_size": 4096},
    "ecdsa-p256": {"alg_name": "ecdsa-sha2-nistp256"},
}
"""What key pairs can be made, by the names of the contract."""

DEFAULT_KEY_TYPE = "ed25519"

_KEY_ALGORITHMS = ("ssh-ed25519 ", "ssh-rsa ", "ecdsa-sha2-nistp")
_MAX_PUBLIC_KEY = 8192


def host_keys(lines: Sequence[str]) -> list[asyncssh.SSHKey]:
    """Public keys from lines of a known_hosts file without the host. Raises ValueError."""
    return [public_key(line) for line in lines]


def public_key(line: str) -> asyncssh.SSHKey:
    """A public key in OpenSSH's form, with which signatures are verified at a bounded cost. Raises ValueError."""
    if len(line) > _MAX_PUBLIC_KEY or not line.lstrip().startswith(_KEY_ALGORITHMS):
        raise ValueError("no public key in OpenSSH's form")
    key = asyncssh.import_public_key(line)
    if isinstance(key.pyca_key, RSAPublicKey):
        key_screening.verifying(key.pyca_key.public_numbers())
    return key
