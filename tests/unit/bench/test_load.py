"""What is read from h2load, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.load import Answer, Method, Outcome, framed, parse_data_bytes, parse_log
from bench.report import BenchmarkError

SUMMARY = """\
finished in 766.45ms, 5218.90 req/s, 623.89KB/s
requests: 4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout
traffic: 478.18KB (489656) total, 12.01KB (12300) headers (space savings 96.20%), 269.53KB (276000) data
"""


def test_log_becomes_answers_in_the_order_of_their_end() -> None:
    assert parse_log("1000\t200\t500\n1100\t200\t200\n") == [Answer(1300, 200), Answer(1500, 500)]


@pytest.mark.parametrize("status", ["-1", "503"])
def test_log_with_another_status_is_a_failure(status: str) -> None:
    with pytest.raises(BenchmarkError, match=status):
        parse_log(f"1000\t200\t500\n1100\t{status}\t200\n")


def test_summary_tells_the_bytes_of_the_answers() -> None:
    assert parse_data_bytes(SUMMARY) == 276_000


def test_summary_without_traffic_is_a_failure() -> None:
    with pytest.raises(BenchmarkError, match="cannot be read"):
        parse_data_bytes("starting benchmark...")


def test_message_is_framed_as_grpc_does() -> None:
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_token_goes_as_a_bearer_header_and_is_absent_without_one() -> None:
    method = Method("127.0.0.1:7", "/a.B/C", b"", "t")
    assert "--header=authorization: Bearer t" in method.arguments(Path("m"))
    assert not any("authorization" in item for item in Method("h:1", "/a.B/C", b"").arguments(Path("m")))
    assert method.arguments(Path("m"))[-1] == "https://127.0.0.1:7/a.B/C"


def test_rate_leaves_out_how_load_begins_and_ends() -> None:
    slow_start = [Answer(at * 100_000, 1) for at in range(10)]
    even = [Answer(1_000_000 + at * 1_000, 1) for at in range(80)]
    slow_end = [Answer(2_000_000 + at * 100_000, 1) for at in range(10)]
    assert Outcome([*slow_start, *even, *slow_end], 0).per_second == pytest.approx(1000, rel=0.3)


def test_quantile_is_the_nearest_rank_without_the_first_tenth() -> None:
    warm_up = [Answer(0, 900_000)] * 10
    outcome = Outcome([*warm_up, *(Answer(1, 1000 * number) for number in range(1, 91))], 0)
    assert outcome.latency_ms(0.5) == 45
    assert outcome.latency_ms(1.0) == 90
