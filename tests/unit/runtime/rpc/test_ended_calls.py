"""What a call leaves behind: gRPC refuses a connection's streams while it believes too many of them to be in work, and
it believes so of every call that somebody still holds."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.runtime.access.quotas import Limit
from services.runtime.access.strangers import Strangers
from services.runtime.call import Call
from services.runtime.config import Telemetry as TelemetrySettings
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.arriving import ArrivingCall
from services.runtime.rpc.pipeline import Pipeline
from services.runtime.telemetry import Telemetry
from tests.support.clients import until
from tests.support.listening import Listening, echo, listening
from tests.unit.runtime.rpc.test_pipeline import Rest

_CALLS = 20
_STREAMS = 8


class Refusing:
    """Fails as a payload says."""

    def Echo(self, request: Any, call: Call) -> Any:  # noqa: N802  # the contract's name
        """Raises what a servicer may."""
        call.permitted = True
        if request.payload == b"unexpected":
            raise ValueError("of a library's")
        try:
            self._below(request.payload)
        except ValueError as error:
            raise StrongroomError(Reason.DATABASE_UNAVAILABLE, "it is not there") from error

    def _below(self, payload: bytes) -> None:
        if payload == b"with a cause":
            raise ValueError("of a library's")
        if payload == b"kept below":
            kept = StrongroomError(Reason.KEY_NOT_FOUND, "it does not exist")
            raise kept
        raise StrongroomError(Reason.KEY_NOT_FOUND, "it does not exist")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Listening, Rest]]:
    """One that takes few calls at once on a connection, behind the pipeline that services have."""
    rest: Any = Rest()
    telemetry = Telemetry("test", TelemetrySettings())
    pipeline = Pipeline(telemetry, rest, rest, rest, rest, Strangers(Limit(1_000, 1_000)))
    with listening(tmp_path, pipeline=pipeline, servicer=Refusing(), streams_per_connection=_STREAMS) as running:
        yield running, rest


@pytest.mark.parametrize(
    "payload", [b"refused", b"with a cause", b"kept below", b"unexpected", b"not recorded", b"unknown"]
)
def test_a_refused_call_leaves_nothing_that_only_the_collector_finds(
    server: tuple[Listening, Rest], payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest keeps what is logged, and what an unexpected error went through with it.
    monkeypatch.setattr(logging.getLogger("services.runtime.rpc.pipeline"), "disabled", True)
    listener, rest = server
    away = StrongroomError(Reason.AUDIT_UNREACHABLE, "away")
    rest.failure = away if payload == b"not recorded" else None
    rest.unknown = StrongroomError(Reason.UNAUTHENTICATED, "nobody") if payload == b"unknown" else None
    with listener.channel("certificate") as channel, _without_collector():
        answers = {_reason(channel, payload) for _ in range(_CALLS)}
        until(lambda: _calls_held() <= 1)
    assert len(answers) == 1
    assert "RST_STREAM" not in answers.pop()


def _reason(channel: grpc.Channel, payload: bytes) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        echo(channel, payload)
    refused: Any = caught.value
    return str(refused.details())


def _calls_held() -> int:
    return sum(type(one) is ArrivingCall for one in gc.get_objects())


@contextmanager
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
