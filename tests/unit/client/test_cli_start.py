"""From its first line to its last the command line ends as it says, whatever interrupts or breaks it meanwhile."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.complaints import Status

STRONGROOM = str(Path(sys.executable).parent / "strongroom")
# Runs the command line as its script does, and has something happen when a module is first asked for.
_HAPPENS_AT = """
import os, signal, sys

class At:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            {happens}

sys.meta_path.insert(0, At())
sys.modules["__main__"].__file__ = {script!r}
sys.argv = ["strongroom", *{words!r}]
from strongroom.cli import main
main()
"""
_INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"
_BROKEN = "raise ImportError('libodd.so.7: cannot open shared object file')"
QUICK = ("startup", "quick", "declared", "cryptography", "inputs", "command", "main", "complaints")


def happening(module: str, happens: str, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    program = _HAPPENS_AT.format(module=module, happens=happens, words=words, script=STRONGROOM)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, **more)


@pytest.fixture(autouse=True)
def _no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    monkeypatch.delenv("STRONGROOM_DEBUG", raising=False)


@pytest.mark.parametrize("module", [*(f"strongroom.cli.{name}" for name in QUICK), "strongroom.profiles"])
def test_ctrl_c_while_a_command_is_loaded_ends_it_quietly(module: str) -> None:
    ended = happening(module, _INTERRUPT, "encrypt", "k", "--text", "x")
    assert (ended.returncode, ended.stdout, ended.stderr) == (Status.INTERRUPTED, "", "")


@pytest.mark.parametrize("module", ["strongroom.cli.app", "typer", "strongroom.cli.topics"])
def test_ctrl_c_while_the_parser_is_loaded_ends_it_quietly(module: str) -> None:
    ended = happening(module, _INTERRUPT, "help", "durations")
    assert (ended.returncode, ended.stdout, ended.stderr) == (Status.INTERRUPTED, "", "")


@pytest.mark.parametrize("module", [*(f"strongroom.cli.{name}" for name in QUICK), "strongroom.profiles"])
def test_an_installation_that_lacks_a_part_is_told_in_one_line(module: str) -> None:
    ended = happening(module, _BROKEN, "encrypt", "k", "--text", "x")
    assert (ended.returncode, ended.stdout) == (Status.FAULT, "")
    assert re.fullmatch(r"error: the command line failed: ImportError: libodd[^\n]*\(INTERNAL\)\n", ended.stderr)


def test_a_part_that_is_missing_is_told_as_json_where_errors_are() -> None:
    ended = happening("strongroom.cli.cryptography", _BROKEN, "encrypt", "k", "--text", "x", "--json")
    assert json.loads(ended.stderr)["error"]["exit_status"] == ended.returncode == Status.FAULT
