"""Connections over HTTP/1.1 by uvicorn's protocol on llhttp, with bounds that it does not have, and Vault's `LIST`.

llhttp knows methods by name, and LIST is none of them. Where a request begins with LIST it is given as LINK, a method
as long, which `method_of` translates back. It has to be the first of what a connection sends at a time: clients of
Vault do not send several requests at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from services.doors.listening.exchange import Response
from services.doors.settings import HttpListener
from services.runtime.access.strangers import network_of

CERTIFICATE = "certificate"
"""Where a request's scope has the client's certificate, in its `state`."""

_LIST, _LINK = b"LIST ", b"LINK "
_PIPELINED = 8
_REFUSED = b"HTTP/1.1 %d Refused\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"


def method_of(scope: Mapping[str, Any]) -> str:
    """The method that a request came with."""
    method: str = scope["method"]
    return "LIST" if method == "LINK" else method


@dataclass
class Connections:
    """Those of one listener: how many there are, and how long each may take."""

    settings: HttpListener
    config: Config
    malformed: Response
    """What somebody is answered who does not speak HTTP."""
    too_large: Response
    """What somebody is answered whose headers do not end."""
    state: ServerState = field(default_factory=ServerState)
    _coming: WeakSet[Connection] = field(default_factory=WeakSet)
    _of_address: Counter[str] = field(default_factory=Counter)

    def accept(self) -> Connection:
        """The protocol of a connection that has come, whose handshake has not begun."""
        made = Connection(self)
        self._coming.add(made)
        return made

    @property
    def is_full(self) -> bool:
        """Whether there are too many, handshakes included."""
        return len(self._coming) > self.settings.max_connections

    def entered(self, address: str) -> bool:
        """Counts a connection from an address; False where those are too many."""
        self._of_address[address] += 1
        return self._of_address[address] <= self.settings.max_address_connections

    def left(self, address: str) -> None:
        """One from this address has ended."""
        self._of_address[address] -= 1
        if self._of_address[address] <= 0:
            del self._of_address[address]

    def sweep(self) -> None:
        """Ends those that take too long."""
        now = time.monotonic()
        for connection in list(self._coming):
            connection.end_if_late(now)

    def end_when_answered(self) -> None:
        """Ends every connection as soon as what is in work on it is answered."""
        for connection in list(self._coming):
            connection.shutdown_when_answered()

    async def drain(self, seconds: float) -> None:
        """Lets requests in work be answered, for so long, and ends every connection."""
        self.end_when_answered()
        deadline = time.monotonic() + seconds
        while self.state.tasks and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self._coming):
            connection.abort()


class Connection(HttpToolsProtocol):
    """One connection. A request has so long to come, and its answer to be made and taken; what is late is ended."""

    def __init__(self, among: Connections) -> None:
        super().__init__(among.config, among.state, {}, asyncio.get_running_loop())
        self._among = among
        self._limits = among.settings
        self._address = ""
        self._is_open = False
        self._is_over = False
        self._since = time.monotonic()
        self._is_coming = False
        self._is_at_start = False
        self._is_in_head = False
        self._head_bytes = 0
        self._begun = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection whose handshake is done, or ends it where there are too many."""
        super().connection_made(transport)
        self._is_open = True
        self._address = network_of(self.client[0]) if self.client else ""
        self._since = time.monotonic()
        if not self._among.entered(self._address) or self._among.is_full or self._is_over:
            transport.abort()
            return
        secured = transport.get_extra_info("ssl_object")
        certificate = secured.getpeercert(binary_form=True) if secured is not None else None
        self.app_state = {CERTIFICATE: certificate or b""}

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has gone."""
        if self._is_open:
            self._is_open = False
            self._among.left(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on. The time of a request begins with its first bytes."""
        if self.parser is None or self.transport.is_closing():
            return
        if not self._is_coming:
            self._begin()
            self._is_at_start = True
        if self._is_at_start:
            data = self._begun + data
            self._begun = b""
            if len(data) < len(_LIST) and _LIST.startswith(data):
                self._begun = data
                return
            if data.startswith(_LIST):
                data = _LINK + data[len(_LIST) :]
            self._is_at_start = False
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > self._limits.max_header_kib << 10:
            self._refuse(self._among.too_large)

    def on_message_begin(self) -> None:
        """A request begins, perhaps behind another in the same bytes."""
        super().on_message_begin()
        if not self._is_coming:
            self._begin()

    def on_headers_complete(self) -> None:
        """The head is whole. More than a few requests before their answers are not waited for."""
        super().on_headers_complete()
        self._is_in_head = False
        if len(self.pipeline) > _PIPELINED:
            self.transport.abort()

    def on_message_complete(self) -> None:
        """The request is whole, whether or not somebody still wanted it to be."""
        super().on_message_complete()
        self._is_coming, self._is_in_head, self._since = False, False, time.monotonic()

    def on_response_complete(self) -> None:
        """The answer is written, as far as the other side takes it. What is left of a request it never asked for is
        still coming, and its time goes on."""
        if not self._is_coming:
            self._since = time.monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP in the words of the door, and ends the connection."""
        del msg
        self._refuse(self._among.malformed)

    def end_if_late(self, now: float) -> None:
        """Ends the connection where what it waits for has not come in time."""
        if self._is_open and now - self._since > self._allowed():
            self.transport.abort()

    def shutdown_when_answered(self) -> None:
        """Takes no further request, and none at all while the handshake is not done."""
        self._is_over = True
        if self._is_open:
            self.shutdown()

    def abort(self) -> None:
        """Ends the connection now."""
        if self._is_open:
            self.transport.abort()

    def _refuse(self, told: Response) -> None:
        if self._is_answered:
            self.transport.write(_REFUSED % (told.status, len(told.body)) + told.body)
        self.transport.close()

    def _begin(self) -> None:
        self._is_coming, self._is_in_head, self._since = True, True, time.monotonic()
        self._head_bytes = 0

    @property
    def _is_answered(self) -> bool:
        """Whether no answer is under way or due."""
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def _allowed(self) -> float:
        limits = self._limits
        if self._is_coming:
            return limits.request_seconds
        if not self._is_answered:
            return limits.answer_seconds
        unsent: Any = self.transport.get_write_buffer_size()
        # One that has just come is expected to ask for something.
        return limits.request_seconds if unsent or self.cycle is None else limits.idle_seconds + limits.request_seconds
