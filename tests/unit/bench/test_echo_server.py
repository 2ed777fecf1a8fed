"""The baseline: what the bare echo answers."""

from __future__ import annotations

from bench.echo_server import EchoServicer, request, response


def test_echo_answers_the_payload() -> None:
    assert EchoServicer().Echo(request(b"abc"), None) == response(b"abc")


def test_echo_answers_as_many_bytes_as_it_is_asked_for() -> None:
    assert EchoServicer().Echo(request(b"abc", 7), None) == response(bytes(7))
