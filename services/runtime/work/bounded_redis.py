"""A Redis client that holds no more of an answer than one of ours can have: whatever stands in Redis, or answers in its
place, takes no memory of the service."""

from __future__ import annotations

from typing import Any

from redis import ConnectionPool, Redis
from redis._parsers import _RESP2Parser
from redis._parsers.socket import SocketBuffer
from redis.connection import parse_url
from redis.exceptions import InvalidResponse

from services.runtime.config import Redis as RedisSettings

MAX_ANSWER_BYTES = 64 << 10
"""Of one answer, as it comes over the network. Ours are a few hundred."""

_SECONDS = 0.5


def redis_client(settings: RedisSettings) -> Redis:
    """A client that gives up soon. It raises InvalidResponse, which is a RedisError, for an answer that is larger
    than any of ours, or none."""
    options: dict[str, Any] = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
    options |= parse_url(settings.url)  # type: ignore[no-untyped-call]
    # In the other protocol whoever can give commands may have messages sent to connections of others.
    options |= {"protocol": 2, "parser_class": BoundedParser}
    return Redis.from_pool(ConnectionPool(**options))


class _Buffer(SocketBuffer):
    """What has come of one answer: a parser empties it after each."""

    def _read_from_socket(self, length: int | None = None, *args: Any, **options: Any) -> bool:
        # All that is missing of a text is read in one go.
        if self._buffer.getbuffer().nbytes + (length or 0) > MAX_ANSWER_BYTES:
            raise InvalidResponse(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return super()._read_from_socket(length, *args, **options)


class BoundedParser(_RESP2Parser):
    """Reads answers of up to `MAX_ANSWER_BYTES`."""

    def on_connect(self, connection: Any) -> None:
        """Takes a new connection."""
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        if self._sock is not None:
            self._buffer = _Buffer(self._sock, self.socket_read_size, connection.socket_timeout)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """One answer. Raises InvalidResponse."""
        try:
            return super().read_response(*args, **options)
        except (ValueError, RecursionError) as error:
            # A length that is no number, one of thousands of digits, lists in lists.
            raise InvalidResponse(type(error).__name__) from None
