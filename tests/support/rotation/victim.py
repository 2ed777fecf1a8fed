"""A process that works on a rotation, and one that is killed at it.

Where it is killed is decided here, around the rotator and the database's commits: the service's own code knows nothing
of it. Processes are forked from one that has imported everything and has no thread, so that one costs milliseconds.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sqlalchemy import event

from deploy.dev.certificates import CertificateFiles
from deploy.dev.mesh import SOURCE
from services.secrets.rotation.rotators.rotator import Rotator
from services.secrets.rotation.states import is_ended
from tests.support.rotation.lab import Lab, Place
from tests.support.rotation.subjects import tls_files

STEPS = ("create", "set", "test", "finish")
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Kill:
    """Where a process is killed: before, inside or after a step of its rotator, or before a commit, counted from 1."""

    step: str
    when: str
    delay_seconds: float = 0.0
    """How far inside."""


class KilledRotator:
    """A rotator whose process dies at one of its steps."""

    def __init__(self, rotator: Rotator, kill: Kill) -> None:
        self._rotator = rotator
        self._kill = kill

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._rotator, name)
        return self._killed(found) if name == self._kill.step else found

    def _killed(self, step: Any) -> Any:
        def run(*arguments: Any) -> Any:
            if self._kill.when == "before":
                die()
            if self._kill.when == "inside":
                threading.Timer(self._kill.delay_seconds, die).start()
            answer = step(*arguments)
            if self._kill.when == "after":
                die()
            if self._kill.when == "inside":
                time.sleep(_SECONDS)
            return answer

        return run


class Workers:
    """Starts processes that work on rotations, one at a time; a context manager."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.support.rotation.victim"]
        self._parent = subprocess.Popen(command, cwd=SOURCE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(30)

    def run(self, place: Place, secret_id: str, certificate: CertificateFiles, kill: Kill | None) -> int:
        """How a process that works on the secret's rotation ended: 0 when the rotation has, or by which signal."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(b64encode(pickle.dumps((place, secret_id, certificate, kill))) + b"\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())


def _fork_for_each_line() -> None:
    for line in sys.stdin.buffer:
        asked = pickle.loads(b64decode(line))  # noqa: S301  # written by Workers
        child = os.fork()
        if child == 0:
            work(*asked)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def work(place: Place, secret_id: str, certificate: CertificateFiles, kill: Kill | None) -> None:
    """Works on what is due until the secret's first rotation has ended."""
    wrap = None if kill is None or kill.step == "commit" else lambda rotator: KilledRotator(rotator, kill)
    lab = Lab(place, tls=tls_files(certificate), wrap=wrap, lease_seconds=0.5)
    if kill is not None and kill.step == "commit":
        _die_at_commit(lab, int(kill.when))
    lab.due_work.start()
    deadline = time.monotonic() + _SECONDS
    while not is_ended(lab.rotation(secret_id)):
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(0.02)
    os._exit(0)


def die() -> None:
    """Ends as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_commit(lab: Lab, number: int) -> None:
    left = [number]

    def count(connection: Any) -> None:
        if connection.get_execution_options().get("writes") and threading.current_thread().name != "due-keeper":
            left[0] -= 1
            if left[0] == 0:
                die()

    event.listen(lab.engine, "commit", count)


if __name__ == "__main__":
    _fork_for_each_line()
