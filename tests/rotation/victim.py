"""A process that works on a rotation, and one that is killed at it.

Where it is killed is decided here, around the rotator and the database's commits: the service's own code knows nothing
of it. Processes are forked from one that has imported everything, so that one costs milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Any

from sqlalchemy import event

from deploy.dev.certificates import CertificateFiles
from services.secrets.rotation_states import is_ended
from services.secrets.rotators.rotator import Rotator
from tests.rotation.lab import Lab, Place
from tests.rotation.subjects import tls_files

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


def processes() -> ForkServerContext:
    """What makes processes like these."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.rotation.victim", "asyncssh", "pymysql", "psycopg", "redis"])
    return context


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
