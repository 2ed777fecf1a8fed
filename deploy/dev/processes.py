"""One process of the mesh, its output in files: started, stopped, killed, suspended and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TAIL_LINES = 25


@dataclass(frozen=True)
class Owner:
    """Another user for a process to run as; only root may ask for one."""

    uid: int
    gid: int

    def command(self, command: Sequence[str]) -> list[str]:
        """How to run a command as that user. `subprocess` itself would fork for it, which gRPC's threads do not always
        survive."""
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--", *command]


class Process:
    """A command that can be started again after it ended.

    Workers that the process starts are in its group and share its fate. Output is appended to `<name>.out`
    and `<name>.err` in `logs`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        logs: Path,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        cpus: frozenset[int] = frozenset(),
        owner: Owner | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.output_files = (logs / f"{name}.out", logs / f"{name}.err")
        self._logs = logs
        self._directory = directory
        self._environment = environment
        self._cpus = cpus
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None

    def like(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        cpus: frozenset[int] = frozenset(),
    ) -> Process:
        """Another of the same command, with these arguments and variables added, on cores of its own."""
        return Process(
            name,
            [*self.command, *arguments],
            logs=self._logs,
            directory=self._directory,
            environment={**(os.environ if self._environment is None else self._environment), **(environment or {})},
            cpus=cpus,
            owner=self._owner,
        )

    @property
    def pid(self) -> int | None:
        """Of the running process; None before it was started and after it ended."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended; a suspended process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal); None while it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Starts it; returns at once. Raises RuntimeError when it runs already."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        out, err = (self._open(path) for path in self.output_files)
        before = os.sched_getaffinity(0) if self._cpus else frozenset()
        try:
            # A child inherits the affinity of the thread that starts it. Not in a preexec_fn: that would fork
            # this process, which gRPC's threads do not survive.
            if self._cpus:
                os.sched_setaffinity(0, self._cpus)
            self._process = subprocess.Popen(
                self._owner.command(self.command) if self._owner else self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self._directory,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the mesh, which stops its processes in order
            )
        finally:
            if before:
                os.sched_setaffinity(0, before)
            out.close()
            err.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code once it ended, or None when `timeout` seconds passed before."""
        if self._process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def terminate(self, grace: float = 15.0, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Asks it to end, and kills what is left after `grace` seconds. The exit code; -9: it was killed."""
        if self._process is None:
            return None
        if self.running:
            self.resume()
            with suppress(ProcessLookupError):
                self._process.send_signal(how)
            self.wait(grace)
        self.kill()
        return self.exit_code

    def kill(self) -> None:
        """SIGKILL to the process and its workers, and waits until it is gone."""
        if self._process is not None:
            self._signal_group(signal.SIGKILL)
            self._process.wait()

    def suspend(self) -> None:
        """SIGSTOP to the process and its workers: connections stay open and nothing answers."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to the process and its workers."""
        self._signal_group(signal.SIGCONT)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines that it wrote, standard error last."""
        written = (path.read_text(errors="replace").splitlines() for path in self.output_files if path.exists())
        return "\n".join(line for output in written for line in output[-lines:])

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        # A group outlives its leader while a worker is left, and the leader's id is not given out until then.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    @staticmethod
    def _open(path: Path) -> IO[bytes]:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")


def set_aside(logs: Path) -> None:
    """Renames each log of an earlier run to `<name>.previous`, so that a run's logs begin with the run."""
    for path in logs.glob("*"):
        if path.suffix in {".out", ".err"}:
            path.replace(path.with_name(f"{path.name}.previous"))
