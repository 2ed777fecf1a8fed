"""The command line, as far as it needs no service."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from strongroom.cli.complaints import Status
from strongroom.cli.inputs import ciphertext_of, moment_of, pairs_of, read_bytes
from strongroom.cli.plain import plain
from strongroom.cli.show import duration, size_text
from strongroom.errors import StrongroomError
from tests.support.cli import run

PROFILES = """\
current = "dev"
[profiles.dev]
account = "main"
trace_directory = "traces"
[profiles.dev.endpoints]
keystore = "127.0.0.1:1"
[profiles.live]
account = "shop"
"""
TRACE = "ab" * 16


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "profiles.toml"
    path.write_text(PROFILES)
    monkeypatch.setenv("STRONGROOM_CONFIG", str(path))
    monkeypatch.delenv("STRONGROOM_PROFILE", raising=False)
    return path


def test_help_loads_no_grpc() -> None:
    script = (
        "import sys\nfrom strongroom.cli import main\nsys.argv = ['strongroom', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'grpc', 'google.protobuf', 'cryptography'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def test_misuse_exits_two_and_writes_nothing_to_standard_output(config: Path) -> None:
    del config
    for arguments in (
        ["no-such-command"],
        ["key", "describe"],
        ["encrypt", "payments", "--context", "tenant"],
        ["encrypt", "payments", "--text", "a", "--in", "b"],
        ["data-key", "payments", "--bytes", "8"],
        ["data-key", "payments", "--without-plaintext", "--plaintext-out", "x"],
        ["file", "decrypt", "report.pdf"],
        ["audit", "events", "--since", "yesterday"],
        ["trace", "ab"],
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, ""), arguments


def test_a_refusal_is_one_line_on_standard_error(config: Path) -> None:
    del config
    result = run("key", "list", "--profile", "none")
    assert (result.exit_code, result.stdout) == (Status.REFUSED, "")
    assert re.fullmatch(r"error: .* \(PROFILE_NOT_FOUND\)\n", result.stderr)


def test_an_unknown_endpoint_says_which_service(config: Path) -> None:
    del config
    result = run("random")
    assert result.exit_code == Status.REFUSED
    assert "crypto" in result.stderr
    assert "(ENDPOINT_UNKNOWN)" in result.stderr


def test_a_service_that_is_not_there_is_named_in_the_error_and_in_status(config: Path) -> None:
    del config
    result = run("key", "list")
    assert result.exit_code == Status.UNREACHABLE
    assert "keystore at 127.0.0.1:1 cannot be reached" in result.stderr
    assert "(UNREACHABLE)" in result.stderr
    status = run("status", "--json")
    assert status.exit_code == 1
    services = {service["service"]: service for service in json.loads(status.stdout)["services"]}
    assert (services["keystore"]["state"], services["keystore"]["reason"]) == ("DOWN", "UNREACHABLE")
    assert services["crypto"]["reason"] == "ENDPOINT_UNKNOWN"


def test_a_file_that_is_not_there_is_named(config: Path) -> None:
    del config
    result = run("encrypt", "payments", "--in", "/no/such/file")
    assert (result.exit_code, result.stderr) == (
        Status.LOCAL,
        "error: /no/such/file: No such file or directory (IO_ERROR)\n",
    )


def test_what_is_too_large_to_encrypt_at_once_points_to_files(config: Path) -> None:
    del config
    result = run("encrypt", "payments", stdin="x" * 65_537)
    assert result.exit_code == Status.REFUSED
    assert "strongroom file encrypt" in result.stderr


def test_profiles_are_listed_and_chosen(config: Path) -> None:
    listed = json.loads(run("profile", "list", "--json").stdout)
    assert (listed["current"], set(listed["profiles"])) == ("dev", {"dev", "live"})
    assert run("profile", "use", "live").exit_code == 0
    assert config.read_text().startswith('current = "live"')
    assert "* " in run("profile", "list").stdout
    assert run("profile", "use", "none").exit_code == Status.REFUSED


def test_a_trace_is_drawn_over_services(config: Path) -> None:
    traces = config.parent / "traces"
    traces.mkdir()
    _write(traces / "strongroom-cli.jsonl", "cli", "strongroom encrypt", "01", None, 0, 9)
    _write(traces / "crypto-1.jsonl", "crypto", "strongroom.crypto.v1.CryptoService/Encrypt", "02", "01", 1, 8)
    _write(traces / "audit-1.jsonl", "audit", "strongroom.audit.v1.EventLogService/Append", "03", "02", 5, 7)
    _write(traces / "audit-1.jsonl", "audit", "another trace", "04", None, 0, 1, trace="cd" * 16)
    (traces / "torn.jsonl").write_text('{"name": "' + TRACE)
    for arguments in (["trace", TRACE], ["trace"], ["trace", f"0x{TRACE.upper()}"]):
        drawn = run(*arguments).stdout
        assert [line.count("    ") for line in drawn.splitlines()] == [0, 0, 1, 2]
        assert "crypto  crypto.v1.CryptoService/Encrypt  7.00 ms  at 1.00 ms" in drawn
        assert "another trace" not in drawn
    document = json.loads(run("trace", TRACE, "--json").stdout)
    assert [span["service"] for span in document["spans"]] == [
        "strongroom-cli",
        "strongroom-crypto",
        "strongroom-audit",
    ]
    assert document["trace"] == TRACE


def test_a_trace_without_spans_is_not_found(config: Path) -> None:
    (config.parent / "traces").mkdir()
    assert "(TRACE_NOT_FOUND)" in run("trace", TRACE).stderr
    assert "(TRACE_NOT_FOUND)" in run("trace").stderr
    assert "trace_directory" in run("trace", TRACE, "--profile", "live").stderr


def test_a_ciphertext_may_come_raw_or_in_base64() -> None:
    ciphertext = b"\x01\x01" + bytes(80)
    encoded = base64.encodebytes(ciphertext)
    assert ciphertext_of(ciphertext) == ciphertext_of(encoded) == ciphertext
    with pytest.raises(StrongroomError) as refusal:
        ciphertext_of(b"no base64!")
    assert refusal.value.reason == "CIPHERTEXT_INVALID"


def test_context_pairs_may_hold_equals_signs_but_no_name_twice() -> None:
    assert pairs_of(["a=1=2", "b="]) == {"a": "1=2", "b": ""}
    assert pairs_of(None) == {}
    for pairs in (["a"], ["a=1", "a=2"]):
        with pytest.raises(typer.BadParameter):
            pairs_of(pairs)


def test_times_are_moments_or_ages() -> None:
    assert moment_of("2026-11-24T02:25:00Z", "--since") == datetime(2026, 11, 24, 2, 25, tzinfo=UTC)
    assert moment_of("2026-11-24T04:25+02:00", "--since") == datetime(2026, 11, 24, 2, 25, tzinfo=UTC)
    assert moment_of("2026-11-24", "--since") == datetime(2026, 11, 24, tzinfo=UTC)
    assert abs(moment_of("15m", "--since") - (datetime.now(UTC) - timedelta(minutes=15))) < timedelta(seconds=5)


def test_bytes_come_from_text_or_file_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x00\xff")
    assert read_bytes("ü", None, 2, "plaintext") == "ü".encode()
    assert read_bytes(None, tmp_path / "file", 2, "plaintext") == b"\x00\xff"
    with pytest.raises(StrongroomError) as refusal:
        read_bytes(None, tmp_path / "file", 1, "plaintext")
    assert refusal.value.reason == "FIELD_TOO_LARGE"


def test_json_has_base64_and_utc_times() -> None:
    time = datetime(2026, 11, 24, 2, 25, tzinfo=UTC)
    assert plain({"data": b"\x00", "time": time, "items": (1, None)}) == {
        "data": "AA==",
        "time": "2026-11-24T02:25:00Z",
        "items": [1, None],
    }


def test_durations_and_sizes_read_well() -> None:
    assert [duration(seconds) for seconds in (0.0123, 61, 7200, 100_000)] == ["12.3ms", "1m 1s", "2h", "1d 3h"]
    assert [size_text(size) for size in (17, 2048, 3 << 30)] == ["17 bytes", "2.0 KiB", "3.0 GiB"]


def _write(
    path: Path, service: str, name: str, span: str, parent: str | None, begin: int, end: int, trace: str = TRACE
) -> None:
    line = {
        "name": name,
        "context": {"trace_id": f"0x{trace}", "span_id": f"0x{span * 8}", "trace_state": "[]"},
        "parent_id": f"0x{parent * 8}" if parent else None,
        "start_time": f"2026-11-24T02:25:00.{begin:03d}000Z",
        "end_time": f"2026-11-24T02:25:00.{end:03d}000Z",
        "status": {"status_code": "UNSET"},
        "attributes": {},
        "resource": {"attributes": {"service.name": f"strongroom-{service}"}, "schema_url": ""},
    }
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_a_command_loads_what_it_needs_and_no_more() -> None:
    script = (
        "import sys\nsys.argv = ['strongroom', 'encrypt', 'k', '--text', 'x', '--profile', 'none']\n"
        "from strongroom.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "import strongroom.client, strongroom.crypto.v1.crypto_pb2_grpc\n"
        "loaded = {'asyncio.base_events', 'grpc.aio._call', 'rich', 'pydantic', 'opentelemetry',\n"
        "          'strongroom.cli.secrets', 'google.protobuf.internal.decoder'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "import asyncio, grpc.aio\n"
        "assert asyncio.run and asyncio.base_events and grpc.aio.Channel\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stderr=subprocess.PIPE)
