"""A server that stops while it is called: gRPC cancels what it had not handed over, and callers that repeat what nobody
answered find out nothing of that."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.echo_server import PATH, request
from services.runtime.mesh import channels
from strongroom import StrongroomError, transport
from strongroom.errors import from_rpc_error
from tests.support.clients import until
from tests.support.listening import ENGINES, KNOWN, Listening, listening

_MESH = [*channels._OPTIONS, ("grpc.enable_retries", 1), ("grpc.service_config", channels._SERVICE_CONFIG)]
_CHANNELS = 8
_CALLS_EACH = 4
_CALLED = 300


class _Caller:
    """Calls until nobody listens any more; the codes of what it was told."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
        self.answered = 0
        self.codes: set[grpc.StatusCode] = set()

    def run(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            try:
                self._method(
                    request(b"x").SerializeToString(), timeout=5, metadata=(("authorization", f"Bearer {KNOWN}"),)
                )
                self.answered += 1
            except grpc.RpcError as error:
                failed: Any = error
                self.codes.add(failed.code())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", [_MESH, transport._OPTIONS], ids=["mesh", "client"])
def test_callers_of_a_server_that_stops_are_told_unavailable_and_nothing_else(
    tmp_path: Path, options: list[tuple[str, Any]], engine: str
) -> None:
    stopped = threading.Event()
    with listening(tmp_path, engine=engine) as server:
        opened = [_channel(server, options) for _ in range(_CHANNELS)]
        callers = [_Caller(channel) for channel in opened for _ in range(_CALLS_EACH)]
        threads = [threading.Thread(target=caller.run, args=(stopped,)) for caller in callers]
        for thread in threads:
            thread.start()
        until(lambda: sum(caller.answered for caller in callers) > _CALLED, 60)
        server.server.drain()
        until(lambda: all(caller.codes for caller in callers), 30)
        stopped.set()
        for thread in threads:
            thread.join()
        for channel in opened:
            channel.close()
    assert set().union(*(caller.codes for caller in callers)) == {grpc.StatusCode.UNAVAILABLE}


def overtaken(directory: Path, ready: Event, *, told_while_draining: bool) -> None:
    """A process whose server was stopped by no signal, and that goes on without it; it ends with 7 where it was told to
    end meanwhile."""
    with listening(directory, lame_duck_seconds=30.0) as running:
        # It serves already.
        running.server.start = lambda: None  # type: ignore[method-assign]
        running.server.stop()

        def on_drained() -> None:
            if told_while_draining:
                os.kill(os.getpid(), signal.SIGTERM)

        if running.server.serve_until_signal(on_drained):
            os._exit(7)
        ready.set()
        time.sleep(60)


def test_a_process_that_goes_on_without_its_server_ends_by_a_signal(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    ready = spawning.Event()
    process = spawning.Process(target=partial(overtaken, tmp_path, ready, told_while_draining=False))
    process.start()
    assert ready.wait(30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(10)
    assert process.exitcode == -signal.SIGTERM


def test_a_signal_while_calls_finish_is_not_forgotten(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    ready = spawning.Event()
    process = spawning.Process(target=partial(overtaken, tmp_path, ready, told_while_draining=True))
    process.start()
    process.join(30)
    assert process.exitcode == 7


def test_what_was_cancelled_by_nobody_is_unavailable_to_programs() -> None:
    class Cancelled(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.CANCELLED

        def details(self) -> str:
            return "CANCELLED"

        def trailing_metadata(self) -> Any:
            return ()

    told: StrongroomError = from_rpc_error(Cancelled(), "echo at a:1")
    assert (told.reason, told.code) == ("UNREACHABLE", grpc.StatusCode.UNAVAILABLE)


def _channel(server: Listening, options: list[tuple[str, Any]]) -> grpc.Channel:
    pair = server.certificate("certificate")
    assert pair is not None
    credentials = grpc.ssl_channel_credentials(server.trust.read_bytes(), pair[1].read_bytes(), pair[0].read_bytes())
    return grpc.secure_channel(server.address("certificate"), credentials, options=options)
