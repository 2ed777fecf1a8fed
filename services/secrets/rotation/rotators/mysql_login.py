"""Connections to MySQL and MariaDB that send no password to a server that has not proved who it is.

A server chooses how a client authenticates. Taken are the ways in which the password itself stays here; one that sends
it (SHA-256 without a cached verifier) only over TLS to a server whose name was verified, which no other server can be.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from pymysql import _auth
from pymysql.connections import Connection
from pymysql.constants import CR
from pymysql.err import OperationalError

_authenticate_sha2: Any = _auth.caching_sha2_password_auth
_authenticate_sha256: Any = _auth.sha256_password_auth
_SHA2_FAST = b"\x01\x03"
# They send a proof, not the password.
_PROOFS = ("mysql_native_password", "client_ed25519")
_SHA2, _SHA256 = "caching_sha2_password", "sha256_password"
ALLOWED = frozenset((*_PROOFS, _SHA2, _SHA256))
"""The plugins that are answered."""


if TYPE_CHECKING:
    _Connection = Connection[Any]
else:  # generic in its stubs alone
    _Connection = Connection


class ProvingConnection(_Connection):
    """A connection to `address`, whose host is verified as `ssl` says; `is_verified` says whether by its name."""

    def __init__(self, address: str, *, is_verified: bool, **given: Any) -> None:
        self._is_verified = is_verified
        self._used = ""
        handlers: dict[str, Any] = {_SHA2: _CachingSha2, _SHA256: _OnlyVerified}
        super().__init__(**given, auth_plugin_map=handlers, defer_connect=True, local_infile=False)
        try:
            connected = socket.create_connection((address, self.port), self.connect_timeout)
        except OSError as error:
            raise OperationalError(CR.CR_CONN_HOST_ERROR, "not connected") from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connect(connected)

    @property
    def is_verified(self) -> bool:
        """Whether the server is known to be the one that the target names."""
        return self._is_verified

    @property
    def plugin(self) -> str:
        """What the user was let in by, as clients call it."""
        return self._used or getattr(self, "_auth_plugin_name", "") or _PROOFS[0]

    @property
    def login_password(self) -> str:
        """What the user logged in with."""
        password: bytes | str = self.password
        # As PyMySQL encodes it.
        return password.decode("latin1") if isinstance(password, bytes) else password

    def _get_server_information(self) -> None:
        super()._get_server_information()  # type: ignore[misc]
        # Its first choice is answered before any other look is taken at it.
        if getattr(self, "_auth_plugin_name", "") == _SHA256 and not self._is_verified:
            raise _refused()

    def _process_auth(self, plugin_name: bytes, auth_packet: Any, handler: Any = None) -> Any:
        self._used = plugin_name.decode("ascii", "replace")
        if self._used not in ALLOWED:
            raise _refused()
        return super()._process_auth(plugin_name, auth_packet, handler)  # type: ignore[misc]


class _OnlyVerified:
    """`sha256_password`: the password goes over TLS, to a server that was verified."""

    def __init__(self, connection: ProvingConnection) -> None:
        self._connection = connection

    def authenticate(self, packet: Any) -> Any:
        """Answers the server, as PyMySQL asks its plugins to."""
        if not self._connection.is_verified:
            raise _refused()
        return _authenticate_sha256(self._connection, packet)


class _CachingSha2:
    """`caching_sha2_password`: a proof where the server has the verifier at hand; otherwise as above."""

    def __init__(self, connection: ProvingConnection) -> None:
        self._connection: Any = connection

    def authenticate(self, packet: Any) -> Any:
        """Answers the server, as PyMySQL asks its plugins to."""
        connection = self._connection
        if connection.is_verified:
            return _authenticate_sha2(connection, packet)
        if packet.is_auth_switch_request():
            connection.salt = packet.read_all().removesuffix(b"\0")
            connection.write_packet(_auth.scramble_caching_sha2(connection.password, connection.salt))
            packet = connection._read_packet()  # a plugin's part of the protocol
            packet.check_error()
        if packet.is_ok_packet():
            return packet
        if packet.get_all_data() != _SHA2_FAST:
            raise _refused()
        packet = connection._read_packet()
        packet.check_error()
        return packet


def _refused() -> OperationalError:
    return OperationalError(CR.CR_AUTH_PLUGIN_ERR, "the server asks for the password itself")
