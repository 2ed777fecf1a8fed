"""TLS of a door's listener: its certificate, followed as its files change, and client certificates where they come."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)


class ServerTls:
    """TLS 1.2 and later. A client certificate is optional; one that does not chain to `trust` ends the handshake."""

    def __init__(self, certificate: Path, key: Path, trust: Path) -> None:
        self._files = (certificate, key, trust)
        self._stamps = self._stat()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.set_alpn_protocols(["http/1.1"])
        self._load()

    def refresh(self) -> None:
        """Reads the files again when they have changed: new handshakes see what they hold now."""
        try:
            stamps = self._stat()
            if stamps != self._stamps:
                self._load()
                self._stamps = stamps
        except (OSError, ssl.SSLError) as error:
            # A replacement that is half done; what they held before goes on.
            log.warning("certificate files cannot be read", extra={"fields": {"error": type(error).__name__}})

    def _load(self) -> None:
        certificate, key, trust = self._files
        self.context.load_cert_chain(certificate, key)
        self.context.load_verify_locations(trust)

    def _stat(self) -> tuple[tuple[int, int], ...]:
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in map(Path.stat, self._files))
