"""Makes calls with grpcio. The package says what it reads and writes."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_status import rpc_status

_LONGEST = 64 << 20


def _metadata(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((name, base64.b64decode(value) if name.endswith("-bin") else value) for name, value in pairs)


def _said(pairs: Any) -> list[tuple[str, str]]:
    shown = [(name, _text(value) if isinstance(value, bytes) else value) for name, value in pairs or ()]
    return [(name, value) for name, value in shown if name.startswith("x-")]


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


class _Begun:
    """A call under way."""

    def __init__(self, channel: grpc.Channel, wanted: dict[str, Any]) -> None:
        self._take = wanted["take"] if wanted["stream"] else 0
        self._cancel = wanted["cancel"] / 1000
        self._began = time.monotonic()
        method: Any = (channel.unary_stream if wanted["stream"] else channel.unary_unary)(wanted["path"])
        self._call = (method if wanted["stream"] else method.future)(
            base64.b64decode(wanted["message"]),
            metadata=_metadata(wanted["metadata"]),
            timeout=wanted["timeout"] / 1000 or None,
            compression=grpc.Compression.Gzip if wanted["compress"] else None,
        )
        self._stream = wanted["stream"]

    def outcome(self) -> dict[str, Any]:
        """How it ended."""
        if self._cancel:
            time.sleep(self._cancel)
            self._call.cancel()
        answers: list[bytes] = []
        try:
            if self._stream:
                for answer in self._call:
                    answers.append(answer)
                    if len(answers) == self._take:
                        self._call.cancel()
            else:
                answers.append(self._call.result())
        except (grpc.RpcError, grpc.FutureCancelledError):
            pass
        try:
            status = rpc_status.from_call(self._call)
        except ValueError:
            status = None
        return {
            "code": self._call.code().value[0],
            "message": self._call.details(),
            "answers": [_text(answer) for answer in answers],
            "trailing": _said(self._call.trailing_metadata()),
            "details": _text(status.SerializeToString()) if status is not None else "",
            "milliseconds": 1000 * (time.monotonic() - self._began),
        }


def _made(channel: grpc.Channel, wanted: dict[str, Any]) -> dict[str, Any]:
    ends = time.monotonic() + wanted["seconds"]
    while True:
        begun = [_Begun(channel, wanted) for _ in range(wanted["times"])]
        outcomes = [one.outcome() for one in begun]
        outcome = next((one for one in outcomes if one["code"]), outcomes[-1])
        if outcome["code"] or time.monotonic() >= ends:
            return outcome


def main() -> None:
    """Makes them."""
    asked = json.load(sys.stdin)
    credentials = grpc.ssl_channel_credentials(Path(asked["trust"]).read_bytes())
    options = [("grpc.max_receive_message_length", _LONGEST), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(asked["address"], credentials, options=options) as channel:
        json.dump([_made(channel, wanted) for wanted in asked["calls"]], sys.stdout)


if __name__ == "__main__":
    main()
