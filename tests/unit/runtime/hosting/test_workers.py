"""Workers and their supervisor end together, however that ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.support.clients import until

ROOT = Path(__file__).resolve().parents[4]
WORKER = (
    "import os, sys, time; from services.runtime.hosting import workers; workers.end_with_supervisor();"
    "open(sys.argv[1] + '/' + str(os.getpid()), 'w').close(); time.sleep(60)"
)
SUPERVISOR = (
    "import sys; from services.runtime.hosting.workers import Supervisor;"
    "sys.exit(Supervisor([sys.executable, '-c', sys.argv[1], sys.argv[2]], 2).run())"
)


def test_workers_of_a_killed_supervisor_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUPERVISOR, WORKER, str(tmp_path)]
    supervisor = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(list(tmp_path.iterdir())) == 2, 30)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
        until(lambda: not any(psutil.pid_exists(pid) for pid in workers), 10)
    finally:
        supervisor.kill()
        supervisor.wait()
