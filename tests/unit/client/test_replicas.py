"""Which of several addresses are tried, and in which order."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest

from strongroom import replicas
from strongroom.access.v1 import session_service_pb2 as sessions
from strongroom.replicas import Replicas

HANGS_SECONDS = 0.05


class Unavailable(grpc.RpcError):
    """How gRPC tells that nobody answered."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def trailing_metadata(self) -> tuple[()]:
        return ()


class Address:
    """A channel whose method fails so often, after so long, and is answered then."""

    def __init__(self, failures: int, seconds: float = 0.0) -> None:
        self.calls = 0
        self._failures = failures
        self._seconds = seconds

    def unary_unary(self, _path: str, **_options: Any) -> Address:
        return self

    def with_call(self, _request: Any, **_arguments: Any) -> tuple[str, None]:
        self.calls += 1
        if self.calls <= self._failures:
            time.sleep(self._seconds)
            raise Unavailable
        return "answered", None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_HANGS_SECONDS", HANGS_SECONDS)
    monkeypatch.setattr(replicas, "_PAUSES", (0.001,) * 5)


def call(*addresses: Address) -> str:
    """What a call of several is answered."""
    currents: list[Any] = [lambda one=one: one for one in addresses]
    method = Replicas(currents).unary_unary("/method")
    answer, _ = method.with_call(sessions.GetCallerIdentityRequest(), timeout=10.0)
    return str(answer)


def test_one_that_hangs_is_not_tried_again_while_another_may_be_back_soon() -> None:
    hung, soon_back = Address(100, 2 * HANGS_SECONDS), Address(5)
    assert call(hung, soon_back) == "answered"
    assert (hung.calls, soon_back.calls) == (1, 6)


def test_where_all_hang_each_is_tried_in_turn() -> None:
    one, other = Address(100, 2 * HANGS_SECONDS), Address(2, 2 * HANGS_SECONDS)
    assert call(one, other) == "answered"
    assert (one.calls, other.calls) == (3, 3)


def test_one_that_refuses_may_be_back_at_once() -> None:
    one, other = Address(100), Address(2)
    assert call(one, other) == "answered"
    assert (one.calls, other.calls) == (3, 3)
