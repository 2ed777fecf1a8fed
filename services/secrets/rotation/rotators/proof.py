"""What a server must have proved before a password is sent to it.

TLS has its say before anything secret is sent. A server that has proved that it is the one which the target names may
be sent a password. Any other is sent proofs of a password (SCRAM, a signed challenge) and verifiers, which cannot be
turned back into it. Where a protocol has neither, such a server is told nothing. Every rotator that logs in with a
password asks here; SSH and gRPC prove the server's key or name in each handshake, whatever the target says.
"""

from __future__ import annotations

from enum import Enum, auto
from ipaddress import ip_address

from services.runtime.errors import Reason, StrongroomError
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA, TargetAddress


class Proof(Enum):
    """What a connection has proved of its server, from the most to the least."""

    NAME = auto()
    """Its certificate is for the host that the target names."""
    AUTHORITY = auto()
    """Its certificate, for whatever host, is of an authority that the target itself names."""
    MACHINE = auto()
    """Nothing, but it is on this machine."""
    NOTHING = auto()
    """Nothing: also where any of the authorities that everybody trusts would do."""


def proof_of(where: TargetAddress, address: str) -> Proof:
    """What a connection as the target asks for it proves of the server at `address`."""
    if where.tls not in (TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA):
        return Proof.NAME
    if where.tls == TARGET_TLS_VERIFY_CA:
        return Proof.AUTHORITY if where.ca_pem else Proof.NOTHING
    return Proof.MACHINE if _is_loopback(address) else Proof.NOTHING


def unproved(what: str) -> StrongroomError:
    """The error that something would show a password to a server that has not proved who it is; no later try will do
    better."""
    return StrongroomError(
        Reason.TARGET_CHANGE_REFUSED,
        f"{what} would show the password to a server that has not proved its name: set the target's address.tls to"
        " VERIFY_FULL",
        incurable="true",
    )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
