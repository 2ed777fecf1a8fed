"""Whether a server of PostgreSQL answers, on sockets that do as they are told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.runtime.storage.answering import Server

SECONDS = 0.3
TOGETHER = 8


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Takes connections as the kernel does, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def server_at(listening: socket.socket) -> Server:
    host, port = listening.getsockname()
    return Server((host, str(port)), SECONDS)


def answer_one(listening: socket.socket, answer: bytes) -> threading.Thread:
    def run() -> None:
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(8) == bytes.fromhex("0000000804d2162f")
            connection.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_one_that_hangs_is_told_in_its_time_and_tried_last(listening: socket.socket) -> None:
    server, began = server_at(listening), time.monotonic()
    assert not server.is_tried_last
    assert not server.answers()
    assert server.silent_at >= began + SECONDS
    assert server.is_tried_last


def test_one_that_was_slow_on_one_connection_keeps_the_others(listening: socket.socket) -> None:
    server, began = server_at(listening), time.monotonic()
    server.note_slow()
    assert server.is_tried_last
    assert server.silent_at < began


@pytest.mark.parametrize("answer", [b"N", b"S", b"E", b""])
def test_whatever_it_answers_it_does_not_hang(listening: socket.socket, answer: bytes) -> None:
    thread, server = answer_one(listening, answer), server_at(listening)
    assert server.answers()
    thread.join()
    assert not server.is_tried_last


def test_one_that_refuses_connections_does_not_hang(listening: socket.socket) -> None:
    server = server_at(listening)
    listening.close()
    assert server.answers()


def test_one_at_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / ".s.PGSQL.5432"))
        listening.listen()
        assert not Server((str(tmp_path), "5432"), SECONDS).answers()
        listening.accept()[0].close()
        thread = answer_one(listening, b"N")
        assert Server((str(tmp_path), "5432"), SECONDS).answers()
        thread.join()


def test_all_who_wait_for_it_ask_once(listening: socket.socket) -> None:
    server = server_at(listening)
    with ThreadPoolExecutor(TOGETHER) as pool:
        asked = [pool.submit(server.answers) for _ in range(TOGETHER)]
        assert [one.result() for one in asked] == [False] * TOGETHER
    listening.accept()[0].close()
    listening.settimeout(0)
    with pytest.raises(BlockingIOError):
        listening.accept()
