"""Load from h2load (nghttp2): unary gRPC calls, an exact number of them, each with its own latency.

h2load speaks HTTP/2 and knows nothing of gRPC: a call that was refused looks to it like one that succeeded. Who
measures has to find out by another way whether the calls did their work.
"""

from __future__ import annotations

import math
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.cores import confined
from bench.report import BenchmarkError

# Connections and load both begin and end unevenly.
_RAMP = 0.1
_TIMEOUT_SECONDS = 120.0
# h2load's clock ticks in milliseconds and it sends a client's overdue requests together: few requests a client,
# and clients that begin one after another, make an even stream of what would be bursts.
_RATE_A_CLIENT = 80.0
_CLIENT_START_SPACING = "3ms"
_DATA = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


@dataclass(frozen=True)
class Shape:
    """How many calls are in flight: so many streams on each of so many connections."""

    connections: int
    streams: int


@dataclass(frozen=True)
class Method:
    """A unary method and the one request that is sent to it again and again."""

    address: str
    path: str
    message: bytes
    token: str = ""

    @property
    def content(self) -> bytes:
        """What the body of each request is."""
        return framed(self.message)

    def arguments(self, message_file: Path) -> list[str]:
        """What h2load is told of it."""
        headers = ["content-type: application/grpc", "te: trailers"]
        if self.token:
            headers.append(f"authorization: Bearer {self.token}")
        return [
            f"--data={message_file}",
            *(f"--header={header}" for header in headers),
            f"https://{self.address}{self.path}",
        ]


class Sent(Protocol):
    """What h2load sends again and again."""

    @property
    def path(self) -> str:
        """What it is called in errors."""

    @property
    def content(self) -> bytes:
        """What the body of each request is."""

    def arguments(self, message_file: Path) -> list[str]:
        """What h2load is told of it; `message_file` has the content."""


@dataclass(frozen=True, slots=True)
class Answer:
    """When a call was answered, microseconds since the epoch, and how long after it was sent."""

    ended_us: int
    latency_us: int


@dataclass(frozen=True)
class Outcome:
    """Every answer of one run, in order of time, and the bytes of their messages."""

    answers: Sequence[Answer]
    data_bytes: int

    @property
    def per_second(self) -> float:
        """Answers a second while the load was even: without the first and the last tenth."""
        ramp = int(len(self.answers) * _RAMP)
        first, last = self.answers[ramp], self.answers[-1 - ramp]
        return (len(self.answers) - 2 * ramp - 1) / max(last.ended_us - first.ended_us, 1) * 1e6

    def latency_ms(self, quantile: float) -> float:
        """The latency that this share of the calls stayed within (nearest rank), without the first tenth."""
        latencies = sorted(answer.latency_us for answer in self.answers[int(len(self.answers) * _RAMP) :])
        return latencies[max(math.ceil(quantile * len(latencies)) - 1, 0)] / 1000


class Load:
    """Sends load from `cores`."""

    def __init__(self, cores: frozenset[int]) -> None:
        self._cores = cores

    def full(self, method: Sent, calls: int, shape: Shape) -> Outcome:
        """`calls` calls, as fast as they are answered. Raises BenchmarkError unless each was."""
        calls = max(calls, shape.connections * shape.streams)
        return self._run(method, calls, [f"--clients={shape.connections}", f"--max-concurrent-streams={shape.streams}"])

    def steady(self, method: Method, calls: int, per_second: float) -> Outcome:
        """`calls` calls at an even rate, sent when they are due, whatever is still unanswered."""
        clients = max(math.ceil(per_second / _RATE_A_CLIENT), 8)
        return self._run(
            method,
            math.ceil(calls / clients) * clients,
            [
                f"--clients={clients}",
                "--max-concurrent-streams=100",
                f"--rps={per_second / clients:.3f}",
                "--rate=1",
                f"--rate-period={_CLIENT_START_SPACING}",
            ],
        )

    @contextmanager
    def flood(self, method: Method, shape: Shape) -> Iterator[None]:
        """Meanwhile sends calls as fast as they are answered, whatever the answers are, from `elsewhere`."""
        how = [f"--clients={shape.connections}", f"--max-concurrent-streams={shape.streams}"]
        with tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory:
            message = Path(directory) / "message"
            message.write_bytes(method.content)
            command = ["h2load", f"--duration={_TIMEOUT_SECONDS:g}", *how, *method.arguments(message)]
            with confined(self._cores):
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            elsewhere(process.pid)
            try:
                yield
            finally:
                process.terminate()
                process.wait()

    def _run(self, method: Sent, calls: int, how: list[str]) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory:
            message, log = Path(directory) / "message", Path(directory) / "log"
            message.write_bytes(method.content)
            command = ["h2load", f"--requests={calls}", f"--log-file={log}", *how, *method.arguments(message)]
            output = self._output(command)
            answers = parse_log(log.read_text())
        if len(answers) != calls:
            raise BenchmarkError(f"{method.path}: {calls} calls were sent, {len(answers)} answered\n{output}")
        return Outcome(answers, parse_data_bytes(output))

    def _output(self, command: list[str]) -> str:
        try:
            with confined(self._cores):
                finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS)
        except FileNotFoundError:
            raise BenchmarkError("h2load is not installed (Debian: nghttp2-client)") from None
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"h2load did not end within {_TIMEOUT_SECONDS:g} s") from error
        except subprocess.CalledProcessError as error:
            raise BenchmarkError(f"h2load failed: {error.stdout}{error.stderr}") from error
        return finished.stdout


def elsewhere(process: int) -> None:
    """Leaves an attacker's process, or thread, what victim and mesh do not use of the processor: attackers have
    machines of their own, and what they spend there is none of what they cost others."""
    os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))


def framed(message: bytes) -> bytes:
    """One gRPC message as it stands in an HTTP/2 body: not compressed, length, bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def parse_log(text: str) -> list[Answer]:
    """Reads h2load's `--log-file`: start in µs, HTTP status, µs until the end. Raises BenchmarkError at any status
    other than 200."""
    answers = []
    for line in text.splitlines():
        start, status, latency = line.split("\t")[:3]
        if status != "200":
            raise BenchmarkError(f"a call ended with HTTP status {status}")
        answers.append(Answer(int(start) + int(latency), int(latency)))
    return sorted(answers, key=lambda answer: answer.ended_us)


def parse_data_bytes(output: str) -> int:
    """Reads from h2load's summary how many bytes of messages came back, gRPC's five a message included."""
    found = _DATA.search(output)
    if found is None:
        raise BenchmarkError(f"h2load's summary cannot be read:\n{output}")
    return int(found[1])
