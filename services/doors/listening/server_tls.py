"""TLS of a door's listener: its certificate, followed as its files change, and client certificates where they come."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)


class ServerTls:
    """TLS 1.2 and later. A client certificate is optional; one that does not chain to `trust` ends the handshake.

    `context` is another one once the files have changed: one that exists goes on trusting whom it did, also in sessions
    that are taken up again.
    """

    def __init__(self, certificate: Path, key: Path, trust: Path) -> None:
        self._files = (certificate, key, trust)
        self._stamps = self._stat()
        self.context = self._made()

    def refresh(self) -> bool:
        """Reads the files again when they have changed; whether there is a new `context`."""
        try:
            stamps = self._stat()
            if stamps == self._stamps:
                return False
            self.context = self._made()
        except (OSError, ssl.SSLError) as error:
            # A replacement that is half done; what they held before goes on.
            log.warning("certificate files cannot be read", extra={"fields": {"error": type(error).__name__}})
            return False
        self._stamps = stamps
        return True

    def _made(self) -> ssl.SSLContext:
        certificate, key, trust = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(trust)
        return context

    def _stat(self) -> tuple[tuple[int, int], ...]:
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in map(Path.stat, self._files))
