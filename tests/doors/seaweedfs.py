"""SeaweedFS, an S3 store: its SSE-KMS has the keys of a door's transit mount."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deploy.dev.topology import free_port
from tests.doors.programs import SEAWEEDFS

_START_SECONDS = 60.0
_HOST = "127.0.0.1"
_CREDENTIALS = {"accessKey": "store-user", "secretKey": "store-secret"}


class SeaweedFs:
    """A store in one process, its data in a directory; a context manager."""

    def __init__(self, directory: Path, vault: str, token: str, trust: Path, *, remembers: bool = False) -> None:
        """`vault` is the door's address and `token` the store's own for it. A store that `remembers` keeps opened data
        keys as long as it does by default."""
        self.directory = directory
        self.log = directory / "log"
        self._data = directory / "data"
        self._configuration = directory / "s3.json"
        self._configuration.write_text(json.dumps(_configuration(vault, token, trust, remembers)))
        self._configuration.chmod(0o600)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it and returns once it takes requests."""
        self._data.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), cwd=self.directory, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._serves():
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.2)

    def stop(self) -> None:
        """Stops it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def client(self) -> Any:
        """A client of the store's: it knows nothing of keys but a name."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://{_HOST}:{self._port}",
            region_name="us-east-1",
            aws_access_key_id=_CREDENTIALS["accessKey"],
            aws_secret_access_key=_CREDENTIALS["secretKey"],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def holds(self, text: bytes) -> bool:
        """Whether a text is in any of its files in the clear."""
        return any(text in path.read_bytes() for path in self._data.rglob("*") if path.is_file())

    def _serves(self) -> bool:
        try:
            self.client().list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True

    def _command(self) -> list[str]:
        ports = []
        for part in ("master", "volume", "filer"):
            ports += [f"-{part}.port={free_port()}", f"-{part}.port.grpc={free_port()}"]
        return [
            str(SEAWEEDFS.built()),
            "server",
            f"-dir={self._data}",
            f"-ip={_HOST}",
            f"-ip.bind={_HOST}",
            *ports,
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=16",
            # Each bucket takes several.
            "-volume.max=200",
            "-filer",
            "-s3",
            f"-s3.config={self._configuration}",
            f"-s3.port={self._port}",
            f"-s3.port.grpc={free_port()}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]


def _configuration(vault: str, token: str, trust: Path, remembers: bool) -> dict[str, Any]:
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    provider = {"type": "openbao", "address": vault, "token": token, "ca_cert": str(trust), "transit_path": "transit"}
    remembering = {} if remembers else {"cache_enabled": False}
    return {
        "identities": [{"name": "tests", "credentials": [_CREDENTIALS], "actions": actions}],
        "kms": {"default_provider": "strongroom", "providers": {"strongroom": {**provider, **remembering}}},
    }
