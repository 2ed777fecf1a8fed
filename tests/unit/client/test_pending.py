"""A change that was made, or may have been: the client asks again by its request id, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message

from strongroom import StrongroomError
from strongroom.keystore.v1.key_service_pb2 import CreateKeyRequest, GetKeyRequest
from strongroom.transport import Answer, Endpoint

PENDING = StrongroomError("AUDIT_PENDING", "made", code="UNAVAILABLE")
UNDECIDED = StrongroomError("CHANGE_UNDECIDED", "it may stand", code="UNAVAILABLE")
AWAY = StrongroomError("AUDIT_UNREACHABLE", "away", code="UNAVAILABLE")
REQUEST = CreateKeyRequest(request_id="0190a1b2-0000-7000-8000-000000000000")


class Scripted(Endpoint[Any]):
    """Answers as it is told."""

    def __init__(self, *script: StrongroomError | str) -> None:
        self.script = list(script)
        self.requests: list[Message] = []
        self._timeout = 5.0
        self._tokens = None

    def _traced(self, method: Any, request: Any, timeout: float, metadata: Any) -> Answer[Any]:
        del method, timeout, metadata
        self.requests.append(request)
        told = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(told, StrongroomError):
            raise told
        return Answer(told, "event")


def asked(endpoint: Scripted, request: Message, timeout: float = 5.0) -> Any:
    return endpoint.call(None, request, timeout).response  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [PENDING, UNDECIDED], ids=str)
def test_the_same_request_finds_what_was_made(first: StrongroomError) -> None:
    endpoint = Scripted(first, AWAY, "made")
    assert asked(endpoint, REQUEST) == "made"
    assert endpoint.requests == [REQUEST] * 3


def test_while_the_log_stays_away_the_answer_is_that_the_change_stands() -> None:
    with pytest.raises(StrongroomError) as refused:
        asked(Scripted(PENDING, AWAY), REQUEST, 0.6)
    assert refused.value.reason == "AUDIT_PENDING"


def test_a_request_without_an_id_is_not_repeated() -> None:
    endpoint = Scripted(PENDING, "again")
    with pytest.raises(StrongroomError):
        asked(endpoint, GetKeyRequest())
    assert len(endpoint.requests) == 1
