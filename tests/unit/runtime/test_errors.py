"""Errors on their way to a caller: they always fit, and are made anew each time they are raised."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from google.protobuf.message import Message

from services.runtime.access.quotas import weigher
from services.runtime.errors import CODE_OF, Reason, StrongroomError
from services.runtime.telemetry import Telemetry
from strongroom.crypto.v1 import crypto_pb2 as pb

SERVICES = Path(__file__).parents[3] / "services"
# Of 8 KiB that are sure to pass; a little is for gRPC's own.
ROOM = 7_500


@pytest.mark.parametrize("letter", ["a", "é", "🔑", "\n", "%"])
def test_an_error_fits_into_the_metadata_whatever_it_says(letter: str) -> None:
    long = letter * 20_000
    error = StrongroomError(Reason.POLICY_INVALID, long, field=long, resource=long, action=long, a=long, b=long, c=long)
    encoded = sum(1 if 32 <= byte < 127 and byte != 37 else 3 for byte in error.message.encode())
    details = len(error.to_status().SerializeToString()) * 4 // 3
    assert encoded + details <= ROOM
    assert error.message.startswith(letter)
    assert error.reason is Reason.POLICY_INVALID


def test_short_errors_stay_as_they_are() -> None:
    error = StrongroomError(Reason.FIELD_INVALID, "name is too odd", field="name", limit="3")
    assert (error.message, error.field, error.metadata) == ("name is too odd", "name", {"field": "name", "limit": "3"})


def test_every_reason_has_a_code() -> None:
    assert set(CODE_OF) == set(Reason)


def test_an_error_that_is_kept_is_never_raised_itself() -> None:
    """`raise self._failure` grows the exception's traceback each time, for as long as it is kept."""
    found = [
        f"{path.relative_to(SERVICES)}:{node.lineno}"
        for path in SERVICES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Attribute | ast.Subscript)
    ]
    assert found == []


def test_a_request_counts_as_its_items_and_its_bytes() -> None:
    methods = pb.DESCRIPTOR.services_by_name["CryptoService"].methods_by_name

    def weighs(method: str, request: Message) -> float:
        return weigher(methods[method])(request, request.ByteSize())

    assert weighs("Encrypt", pb.EncryptRequest(plaintext=bytes(100))) == 1
    assert weighs("Encrypt", pb.EncryptRequest(plaintext=bytes(200 << 10))) == 4
    batch = pb.BatchEncryptRequest(items=[pb.EncryptItem(plaintext=b"x")] * 700)
    assert weighs("BatchEncrypt", batch) == 700
    assert weighs("BatchGenerateDataKey", pb.BatchGenerateDataKeyRequest(count=1_000)) == 1_000
    assert weighs("BatchGenerateDataKey", pb.BatchGenerateDataKeyRequest(count=1 << 31)) == 1_000


def test_what_a_stranger_says_of_sampling_does_not_count() -> None:
    from services.runtime.config import Telemetry as Settings

    telemetry = Telemetry("crypto", Settings(sample_ratio=0.0))
    asked = f"00-{'ab' * 16}-{'cd' * 8}-01"
    trace = telemetry.start_call("s", "m", asked)
    assert (trace.trace_id, trace.sampled, trace.span) == ("ab" * 16, False, None)
    known = telemetry.caller_known(trace, "s", "m")
    assert (known.trace_id, known.sampled) == ("ab" * 16, True)
    assert telemetry.caller_known(telemetry.start_call("s", "m", asked[:-1] + "0"), "s", "m").span is None
