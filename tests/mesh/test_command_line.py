"""What a new user does: the development mesh in one terminal, the command line in another."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.mesh import SOURCE
from deploy.dev.topology import free_base
from tests.support.clients import until

START_SECONDS = 60.0
STRONGROOM = str(Path(sys.executable).parent / "strongroom")

# As docs/keys.md tells it.
OPENSSL_OAEP = shlex.split(
    "openssl pkeyutl -encrypt -pubin -keyform DER -inkey wrapping.der -pkeyopt rsa_padding_mode:oaep"
    " -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 -in raw -out wrapped"
)


class Terminal:
    """Where the user types: a home and a working directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {**os.environ, "HOME": str(home), "STRONGROOM_CONFIG": str(home / "profiles.toml")}
        self._port = str(free_base())

    @contextmanager
    def make_run(self) -> Iterator[str]:
        """`make run`, until Ctrl-C; what it printed once it was ready."""
        command = [sys.executable, "-m", "deploy.dev", "--directory", str(self.home / "mesh"), "--port", self._port]
        process = subprocess.Popen(command, cwd=SOURCE, env=self.environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        printed = ""
        deadline = time.monotonic() + START_SECONDS
        try:
            while "audit events" not in printed:
                line = process.stdout.readline()
                assert line, f"it ended early: {printed}"
                assert time.monotonic() < deadline
                printed += line
            yield printed
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(START_SECONDS)
        assert process.returncode == 0

    def type(self, *arguments: str, given: bytes = b"", status: int = 0) -> bytes:
        """What a `strongroom` command prints."""
        done = self.run(*arguments, given=given)
        assert done.returncode == status, done.stderr.decode()
        return done.stdout if status == 0 else done.stderr

    def run(self, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """What comes of a `strongroom` command, however it ends."""
        command = [STRONGROOM, *arguments]
        return subprocess.run(
            command, check=False, cwd=self.home, env=self.environment, input=given, capture_output=True
        )

    def json(self, *arguments: str, given: bytes = b"") -> Any:
        return json.loads(self.type(*arguments, "--json", given=given))


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_a_new_user_encrypts_a_file_and_finds_everything_again_after_a_restart(terminal: Terminal) -> None:
    plain = terminal.home / "plain.bin"
    plain.write_bytes(os.urandom(3 << 20) + b"end")

    with terminal.make_run() as printed:
        assert "key create my-key" in printed
        assert {service["state"] for service in terminal.json("status")["services"]} == {"OK"}
        key = terminal.json("key", "create", "payments")["name"]
        sealed = terminal.type("encrypt", "payments", "--text", "attack at dawn").strip()
        assert terminal.type("decrypt", given=sealed) == b"attack at dawn"
        terminal.type("file", "encrypt", "payments", "plain.bin", "--out", "sealed")
        terminal.type("secret", "create", "db.password", "--text", "hunter2")
        actions = [event["action"] for event in terminal.json("audit", "events")["events"]]
        assert {"keystore:CreateKey", "crypto:Encrypt", "crypto:Decrypt", "secrets:CreateSecret"} <= set(actions)
        spans = terminal.json("trace")["spans"]
        assert spans

    with terminal.make_run():
        assert [found["name"] for found in terminal.json("key", "list")["keys"] if found["name"] == key] == [key]
        terminal.type("file", "decrypt", "sealed", "--out", "opened")
        assert (terminal.home / "opened").read_bytes() == plain.read_bytes()
        assert terminal.type("secret", "get", "db.password") == b"hunter2"
        refused = terminal.type("file", "decrypt", "sealed", "--out", "opened", status=3)
        assert b"--force" in refused
        terminal.type("key", "disable", "payments")
        # Within a second, which a command may be quicker than.
        until(lambda: terminal.run("encrypt", "payments", "--text", "late").returncode == 3)
        told = terminal.type("encrypt", "payments", "--text", "late", status=3)
        assert b"KEY_DISABLED" in told


def test_a_key_of_each_kind_is_walked_through_its_life(terminal: Terminal) -> None:
    with terminal.make_run():
        for spec in ("RSA_2048", "EC_P256", "ML_DSA_65"):
            key = spec.lower().replace("_", "-")
            terminal.type("key", "create", key, "--spec", spec, "--usage", "SIGN_VERIFY")
            old = terminal.type("sign", key, "--text", "message").strip().decode()
            rotated = terminal.json("key", "rotate", key)
            assert rotated["name"].endswith(f"{key}/versions/2")
            first = f"{key}/versions/1"
            terminal.type("verify", first, "--signature", old, "--text", "message")
            terminal.type("verify", first, "--signature", old, "--text", "another", status=1)
            assert terminal.type("public-key", "get", first).startswith(b"-----BEGIN PUBLIC KEY-----")
            assert terminal.json("key", "schedule-deletion", key, "--days", "7")["state"] == "PENDING_DELETION"
            assert terminal.json("key", "cancel-deletion", key)["state"] == "DISABLED"
            assert terminal.json("key", "enable", key)["state"] == "ENABLED"

        terminal.type("key", "create", "payments", "--rotation-days", "90", "--tag", "team=a")
        sealed = terminal.type("encrypt", "payments", "--text", "old").strip()
        terminal.type("key", "rotate", "payments")
        assert terminal.type("decrypt", given=sealed) == b"old"
        versions = terminal.json("key", "version", "list", "payments")["versions"]
        assert [version["primary"] for version in versions] == [True, False]
        terminal.type("key", "create", "other")
        moved = terminal.type("re-encrypt", "other", given=sealed)
        assert terminal.type("decrypt", "--key", "other", given=moved) == b"old"
        terminal.type("key", "protect", "payments")
        assert b"DELETION_PROTECTED" in terminal.type("key", "schedule-deletion", "payments", status=3)

        rotating = terminal.json("root", "rotate", "--yes")
        assert (rotating["current_version"], rotating["rotation"]["state"]) == (2, "RUNNING")
        assert terminal.json("root", "status")["rotation"]["target_version"] == 2

        terminal.type("key", "create", "brought", "--origin", "EXTERNAL")
        told = terminal.json(
            "key",
            "material",
            "parameters",
            "brought",
            "--method",
            "RSA_OAEP_4096_SHA256",
            "--public-key",
            "wrapping.der",
            "--token",
            "token",
        )
        assert (told["method"], told["protection_level"]) == ("RSA_OAEP_4096_SHA256", "SOFTWARE")
        (terminal.home / "raw").write_bytes(bytes(32))
        subprocess.run(OPENSSL_OAEP, cwd=terminal.home, check=True)
        terminal.type("key", "material", "import-wrapped", "brought", "--token", "token", "--in", "wrapped")
        assert terminal.json("key", "material", "delete", "brought", "--yes")["state"] == "PENDING_IMPORT"
        told = terminal.json("key", "material", "import", "brought", "--in", "raw", "--expire-days", "7")
        assert (told["state"], told["expire_time"] is not None) == ("ENABLED", True)

        terminal.type("key", "create", "tags", "--spec", "HMAC_256")
        mac = terminal.type("mac", "generate", "tags", "--text", "m").strip().decode()
        terminal.type("mac", "verify", "tags", "--mac", mac, "--text", "m")
        terminal.type("key", "create", "inbox", "--spec", "X_WING")
        letter = terminal.type("public-key", "encrypt", "inbox", "--text", "hello").strip().decode()
        assert terminal.type("public-key", "decrypt", "inbox", "--text", letter) == b"hello"
