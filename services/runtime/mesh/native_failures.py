"""Calls of native code that failed, as gRPC's own channels tell of theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

_CODES = {code.value[0]: code for code in grpc.StatusCode}

Trailers = Iterable[tuple[str, str | bytes]]


class Failure(grpc.RpcError):
    """How a call failed, as a channel would tell."""

    def __init__(self, code: int, details: str, trailers: Trailers) -> None:
        super().__init__(details)
        self._code = _CODES.get(code, grpc.StatusCode.UNKNOWN)
        self._details = details
        self._trailers = tuple(trailers)

    def code(self) -> grpc.StatusCode:
        """The status code."""
        return self._code

    def details(self) -> str:
        """The sentence beside it."""
        return self._details

    def trailing_metadata(self) -> Any:
        """What it came with."""
        return self._trailers
