"""TLS to a team's own RotatorService, apart from the step that talks with it.

The connection is made with the service's certificate, whose key opens the whole mesh. So a process of its own has the
key and speaks TLS and nothing else, as the service's listeners do with strangers; it hands bytes on to the process of
the step, which reads what the rotator says, has no key, and was given a token for this step alone.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.tls import Identity
from services.secrets.kinds.declared.grpc import step_seconds
from services.secrets.rotation.rotators.failures import failure
from services.secrets.rotation.rotators.rotator import RotationContext
from services.secrets.rotation.rotators.tls import memory_file
from services.secrets.rotation.targets.confinement import write_nothing_more

_CHUNK = 65_536
_PEER = struct.Struct("=iii")  # struct ucred (unix(7))


def relay(context: RotationContext, identity: Identity, stream: socket.socket) -> None:
    """Connects to the context's rotator, and hands bytes on until one of both ends. Raises TARGET_UNREACHABLE,
    DESTINATION_NOT_ALLOWED."""
    target = context.target.grpc
    host, _, port = target.address.rpartition(":")
    what = f"connection to the rotator at {target.address}"
    wanted = context.reach.spiffe_ids if context.reach is not None else frozenset()
    # An authority of a tenant's own would say of any server that it has the id.
    trusted = identity.trust.decode() if wanted else target.ca_pem or identity.trust.decode()
    address = context.address()
    try:
        protection = _tls(identity, trusted)
        write_nothing_more()
        connected = socket.create_connection((address, int(port)), step_seconds(target))
        with protection.wrap_socket(connected, server_hostname=host.strip("[]")) as secured:
            if secured.selected_alpn_protocol() != "h2":
                raise StrongroomError(Reason.TARGET_UNREACHABLE, f"{what}: it does not speak HTTP/2")
            if wanted:
                _require_one_of(wanted, secured, what)
            _hand_on(stream, secured)
    except OSError as error:
        raise failure(Reason.TARGET_UNREACHABLE, what, error) from None


def _require_one_of(wanted: frozenset[str], secured: ssl.SSLSocket, what: str) -> None:
    """Before anything is sent, the token of the step too."""
    shown: dict[str, Any] = secured.getpeercert() or {}
    ids = [value for kind, value in shown.get("subjectAltName", ()) if kind == "URI"]
    # X509-SVID, section 2: a certificate has one.
    if len(ids) != 1 or ids[0] not in wanted:
        raise StrongroomError(
            Reason.DESTINATION_NOT_ALLOWED,
            f"{what}: its certificate has no SPIFFE id that the service's configuration (rotation.targets) lists for"
            " the account",
            incurable="true",
        )


def local_endpoint(stream: socket.socket, connected: Callable[[], None]) -> str:
    """Where gRPC of this process, and nobody else, reaches what the relay is connected to. `connected` is done when it
    has, and before anything is read of what the rotator says."""
    name = f"strongroom-{secrets.token_hex(16)}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen()
    threading.Thread(target=_accept_own, args=(listener, stream, connected), daemon=True).start()
    return f"unix-abstract:{name}"


def _accept_own(listener: socket.socket, stream: socket.socket, connected: Callable[[], None]) -> None:
    with listener:
        while True:
            local, _ = listener.accept()
            peer, _, _ = _PEER.unpack(local.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if peer == os.getpid():
                break
            local.close()
    connected()
    for source, sink in ((local, stream), (stream, local)):
        threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(_CHUNK):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _tls(identity: Identity, trusted: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=trusted)
    context.set_alpn_protocols(["h2"])
    # The library reads keys from files alone: what stands in this one nobody else can open.
    password = secrets.token_bytes(32).hex()
    key = load_pem_private_key(identity.key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())
    )
    with memory_file(identity.certificate + b"\n" + key) as path:
        context.load_cert_chain(path, password=password)
    return context


def _hand_on(stream: socket.socket, secured: ssl.SSLSocket) -> None:
    secured.setblocking(False)
    while True:
        ready = [secured] if secured.pending() else select.select([stream, secured], [], [])[0]
        if secured in ready:
            try:
                part = secured.recv(_CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                # A part of a record, or nothing that is for whoever reads.
                pass
            else:
                if not part:
                    return
                stream.sendall(part)
        if stream in ready:
            part = stream.recv(_CHUNK)
            if not part:
                return
            _send(secured, part)


def _send(secured: ssl.SSLSocket, content: bytes) -> None:
    left = memoryview(content)
    while left:
        try:
            left = left[secured.send(left) :]
        except ssl.SSLWantReadError:
            select.select([secured], [], [])
        except ssl.SSLWantWriteError:
            select.select([], [secured], [])
