"""`--workers N`: several processes on one port (SO_REUSEPORT), started fresh, watched, ended together.

Fresh processes and not forks: neither gRPC nor a PKCS#11 module survives a fork. A worker ends with its supervisor,
however that ends: each holds the reading end of a pipe that only the supervisor can write to.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time

log = logging.getLogger(__name__)

WORKER = "STRONGROOM_WORKER"
_LIFELINE = "STRONGROOM_WORKER_LIFELINE"
_QUICK_DEATH_SECONDS = 5.0
_QUICK_DEATHS_ALLOWED = 3
_STOP_SECONDS = 30.0


def worker_number() -> int | None:
    """Which worker this process is, counted from 0; None when it serves alone."""
    value = os.environ.get(WORKER)
    return int(value) if value else None


def end_with_supervisor() -> None:
    """Has this worker drain and end when its supervisor is gone; does nothing in a process that serves alone."""
    lifeline = os.environ.get(_LIFELINE)
    if lifeline is None:
        return

    def wait() -> None:
        os.read(int(lifeline), 1)  # nothing is ever written: it returns when the other end is closed
        log.warning("the supervising process is gone; this worker ends")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


class Supervisor:
    """Keeps `count` workers running; ends with status 1 when one keeps dying young."""

    def __init__(self, command: list[str], count: int) -> None:
        self._command = command
        self._lifeline, self._held = os.pipe()
        self._stopping = threading.Event()
        self._workers = [self._start(number) for number in range(count)]
        self._started = [time.monotonic()] * count
        self._quick_deaths = 0

    def run(self) -> int:
        """Watches until SIGTERM or SIGINT, hands that on, and waits; answers the exit status."""
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, lambda *_: self._stopping.set())
        while not self._stopping.wait(0.1):
            for number, worker in enumerate(self._workers):
                if worker.poll() is not None and not self._replace(number, worker.returncode):
                    self._stop()
                    return 1
        self._stop()
        return 0 if all(worker.returncode == 0 for worker in self._workers) else 1

    def _replace(self, number: int, status: int) -> bool:
        log.error("a worker process ended unexpectedly", extra={"fields": {"worker": number, "status": status}})
        if time.monotonic() - self._started[number] < _QUICK_DEATH_SECONDS:
            self._quick_deaths += 1
        else:
            self._quick_deaths = 0
        if self._quick_deaths > _QUICK_DEATHS_ALLOWED:
            log.error("worker processes keep ending right after their start; giving up")
            return False
        self._started[number] = time.monotonic()
        self._workers[number] = self._start(number)
        return True

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, WORKER: str(number), _LIFELINE: str(self._lifeline)}
        return subprocess.Popen(self._command, env=environment, pass_fds=(self._lifeline,))

    def _stop(self) -> None:
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in self._workers:
            try:
                worker.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def supervise(service: str, config: str, count: int) -> int:
    """Runs `count` workers of a service until told to stop."""
    return Supervisor([sys.executable, "-m", f"services.{service}", "serve", "--config", config], count).run()
