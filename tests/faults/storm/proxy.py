"""Stands between the services and one PostgreSQL server: cuts connections, and loses what the server answered."""

from __future__ import annotations

import asyncio
import threading
from typing import Self

from deploy.dev.topology import HOST

_CHUNK = 1 << 16


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.loses_answer = False

    def cut(self) -> None:
        """Ends it as a network does: without a word."""
        for end in (self.client, self.server):
            end.transport.abort()


class PostgresProxy:
    """Listens at `port` and connects to `target`; None refuses. A context manager."""

    def __init__(self, port: int, target: int | None) -> None:
        self.port = port
        self.target = target
        self.lost = 0
        self._links: set[_Link] = set()
        self._to_lose = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="postgres-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, HOST, self.port)
        asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> None:
        """Ends every connection."""
        done = threading.Event()

        def run() -> None:
            for link in list(self._links):
                link.cut()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(10)

    def lose_answers(self, count: int) -> None:
        """The next `count` times that COMMIT is sent, the server gets it and its answer is lost with the connection."""
        self._to_lose = count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = self.target
        try:
            if target is None:
                raise ConnectionRefusedError
            answers, server = await asyncio.open_connection(HOST, target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server)
        self._links.add(link)
        try:
            await asyncio.gather(self._forward(reader, link), self._answer(answers, link))
        except OSError:
            pass
        finally:
            link.cut()
            self._links.discard(link)

    async def _forward(self, reader: asyncio.StreamReader, link: _Link) -> None:
        while data := await reader.read(_CHUNK):
            if self._to_lose and b"COMMIT" in data:
                self._to_lose -= 1
                link.loses_answer = True
            link.server.write(data)
            await link.server.drain()
        link.cut()

    async def _answer(self, answers: asyncio.StreamReader, link: _Link) -> None:
        while data := await answers.read(_CHUNK):
            if link.loses_answer:
                self.lost += 1
                break
            link.client.write(data)
            await link.client.drain()
        link.cut()
