"""A running OpenBao to measure beside: where it is stands in a folder, and what is asked of it is made there first.

The folder has three files: `address` (as `https://127.0.0.1:8200`), `token`, and `certificate.pem`, the authority of
its certificate. `python -m tools.openbao serve FOLDER` starts one and writes them; any other does that has them.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError

from bench.report import BenchmarkError

_SECONDS = 10.0
_IN_USE = "path is already in use"


@dataclass(frozen=True)
class OpenBao:
    """One that runs, and a token that may make mounts, keys and secrets in it."""

    address: str
    token: str = field(repr=False)
    certificate: Path

    @classmethod
    def in_folder(cls, folder: Path) -> OpenBao:
        """The one that a folder describes. Raises BenchmarkError."""
        certificate = folder / "certificate.pem"
        try:
            certificate.read_bytes()
            address, token = ((folder / name).read_text().strip() for name in ("address", "token"))
        except OSError as error:
            raise BenchmarkError(f"{folder} describes no OpenBao: {error}") from None
        if not address.startswith("https://"):
            raise BenchmarkError(f"{folder / 'address'}: the doors are measured with TLS, and so is OpenBao (https://)")
        return cls(address, token, certificate)

    def prepare(self, key: str, secret: str, value: object) -> None:
        """Makes the mounts, an AES key and a secret, unless they are there. Raises BenchmarkError."""
        self._mount("transit", {"type": "transit"})
        self._mount("secret", {"type": "kv", "options": {"version": "2"}})
        self._write(f"transit/keys/{key}", {})
        self._write(f"secret/data/{secret}", {"data": value})

    def _mount(self, name: str, what: object) -> None:
        try:
            self._write(f"sys/mounts/{name}", what)
        except BenchmarkError as error:
            if _IN_USE not in str(error):
                raise

    def _write(self, path: str, body: object) -> None:
        headers = {"X-Vault-Token": self.token, "Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310  # its scheme was looked at
            f"{self.address}/v1/{path}", json.dumps(body).encode(), headers, method="POST"
        )
        context = ssl.create_default_context(cafile=str(self.certificate))
        try:
            urllib.request.urlopen(request, timeout=_SECONDS, context=context).close()  # noqa: S310
        except HTTPError as error:
            raise BenchmarkError(
                f"OpenBao at {path}: {error.code} {error.read(500).decode(errors='replace')}"
            ) from None
        except (URLError, OSError) as error:
            raise BenchmarkError(f"OpenBao does not answer at {self.address}: {error}") from None
