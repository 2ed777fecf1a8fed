"""The mesh's directory: where what lies, one mesh at a time, and no process left over from an earlier one."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from deploy.dev.errors import MeshError
from deploy.dev.files import private_directory, write_file

_SAME_START_SECONDS = 2.0
_END_SECONDS = 5.0
_TRACES_KEPT_SECONDS = 7 * 86_400


class DirectoryInUseError(MeshError):
    """Another mesh runs in this directory."""


class MeshDirectory:
    """Names of everything below the directory, and the lock on it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock: IO[str] | None = None

    @property
    def certificates(self) -> Path:
        """The certificate authority and what it issued."""
        return self.root / "certificates"

    @property
    def configurations(self) -> Path:
        """One TOML file a service."""
        return self.root / "config"

    @property
    def data(self) -> Path:
        """Databases."""
        return self.root / "data"

    @property
    def redis(self) -> Path:
        """Redis's append-only file."""
        return self.root / "redis"

    @property
    def hsm(self) -> Path:
        """The SoftHSM2 token, where the provider is `pkcs11`."""
        return self.root / "hsm"

    @property
    def root_key(self) -> Path:
        """The root key file, where the provider is `local`."""
        return self.root / "root" / "root.key"

    @property
    def logs(self) -> Path:
        """Standard output and error of every process, `<name>.out` and `<name>.err`."""
        return self.root / "logs"

    @property
    def traces(self) -> Path:
        """Finished spans, JSON lines."""
        return self.root / "traces"

    def lock(self) -> None:
        """Makes the directory, and this process its only user. Raises DirectoryInUseError."""
        private_directory(self.root)
        # Not inherited by the mesh's processes: the lock ends with this one, however it ends.
        lock = (self.root / "mesh.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            other = lock.read().strip() or "unknown"
            lock.close()
            raise DirectoryInUseError(f"a mesh runs in {self.root} already (process {other})") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def unlock(self) -> None:
        """Lets another mesh run here; what this one started has ended by now."""
        if self._lock is not None:
            self._process_file.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def record_processes(self, pids: Mapping[str, int]) -> None:
        """Notes what runs, for `end_left_over_processes` of a later mesh."""
        started = {}
        for name, pid in pids.items():
            with suppress(psutil.NoSuchProcess):
                started[name] = {"pid": pid, "started": psutil.Process(pid).create_time()}
        write_file(self._process_file, json.dumps(started, indent=2) + "\n")

    def end_left_over_processes(self) -> list[str]:
        """Kills what a killed mesh left running here, with its workers; answers their names."""
        try:
            recorded = json.loads(self._process_file.read_text())
        except (OSError, ValueError):
            return []
        ended: dict[str, int] = {}
        for name, entry in recorded.items():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                process = psutil.Process(entry["pid"])
                # Process ids are used again; a start time tells ours from a stranger.
                if abs(process.create_time() - entry["started"]) < _SAME_START_SECONDS:
                    os.killpg(process.pid, signal.SIGKILL)
                    ended[name] = process.pid
        deadline = time.monotonic() + _END_SECONDS
        while not all(map(_is_gone, ended.values())) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._process_file.unlink()
        return list(ended)

    def forget_old_traces(self) -> None:
        """Removes span files that nothing was added to for a week; each process writes one of its own."""
        for path in self.traces.glob("*.jsonl"):
            if time.time() - path.stat().st_mtime > _TRACES_KEPT_SECONDS:
                path.unlink()

    @property
    def _process_file(self) -> Path:
        return self.root / "processes.json"


def _is_gone(group: int) -> bool:
    """Whether nothing of a process group runs any more.

    A zombie holds no port and no file once all of its threads have ended; when it disappears is up to the machine's
    init. Its workers end after it.
    """
    return not any(_is_of(process, group) and not _has_ended(process) for process in psutil.process_iter())


def _is_of(process: psutil.Process, group: int) -> bool:
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid) == group
    return False


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True
