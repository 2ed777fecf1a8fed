"""The quick way reads what typer reads, to the same values, and leaves all else to it."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer import TyperException
from typer.main import _normalize_collection_value

from strongroom.cli import declared
from strongroom.cli.quick import NotOrdinaryError, read
from tests.support.cli import commands
from tests.unit.client.test_cli_endings import PROFILES

STRONGROOM = str(Path(sys.executable).parent / "strongroom")
EXAMPLES = [(name, example) for name, command in commands().items() for example in command.examples]
NEVER_QUICK = {"help"}


def words_of(command: str, example: str) -> list[str]:
    """What is typed behind the command, up to a pipe."""
    words = shlex.split(example)
    end = next((place for place, word in enumerate(words) if word in ("|", "<", ">")), len(words))
    return words[1 + len(command.split()) : end]


def by_typer(command: str, words: list[str]) -> dict[str, Any] | None:
    """The values that typer gives the function of a command; None where it refuses the words."""
    found = commands()[command]
    try:
        context = found.make_context(command, list(words))
    except (TyperException, SystemExit):
        return None
    except Exception as error:
        if type(error).__name__ == "Exit":
            return None
        raise
    parameters = {parameter.name: parameter for parameter in found.params}
    return {name: _normalize_collection_value(parameters[name], value) for name, value in context.params.items()}


def quickly(command: str, words: list[str]) -> dict[str, Any] | None:
    """The values that the quick way gives it; None where it leaves the words to typer."""
    try:
        return read(inspect.signature(commands()[command].callback).parameters.values(), words, command)
    except NotOrdinaryError:
        return None


@pytest.mark.parametrize(("command", "example"), EXAMPLES)
def test_every_example_is_read_quickly_and_as_typer_reads_it(command: str, example: str) -> None:
    words = words_of(command, example)
    expected = by_typer(command, words)
    assert expected is not None
    assert quickly(command, words) == expected


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("encrypt", "payments --text x --context a=1 --context b=2,c=3 -o json --wide"),
        ("encrypt", "--text=x payments --json"),
        ("encrypt", "-- payments"),
        ("encrypt", "--in - payments --out -"),
        ("key create", "--deletion-protection x --spec aes-128"),
        ("key create", "--no-deletion-protection --rotation-days 90"),
        ("key create", ""),
        ("secret rotate", "a b c --no-follow --concurrency 3"),
        ("secret rotate", "--tag a=b --now"),
        ("principal set-roles", "users/x"),
        ("principal set-roles", "users/x a b"),
        ("run", "--env A=secret:b -- sh -c x --flag"),
        ("quota set", "--requests-per-second 1.5"),
        ("audit report", "--by principal --by outcome"),
        ("profile edit", "x --unset client_key"),
        ("file encrypt", "k a b c"),
        ("policy update", "x"),
    ],
)
def test_what_is_written_in_any_usual_way_is_read_alike(command: str, line: str) -> None:
    words = shlex.split(line)
    assert quickly(command, words) == by_typer(command, words) is not None


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("encrypt", ""),
        ("encrypt", "a b"),
        ("encrypt", "a --no-such"),
        ("encrypt", "a --text"),
        ("encrypt", "a --text --json"),
        ("encrypt", "a --json=yes"),
        ("encrypt", "a -ojson"),
        ("encrypt", "a -o xml"),
        ("encrypt", "a --help"),
        ("key create", "x --spec AES_512"),
        ("key list", "--limit x"),
        ("key list", "--limit 0"),
        ("secret create", "x --port 70000"),
        ("quota set", "--requests-per-second nan"),
        ("audit events", "--action Decrypt"),
        ("file encrypt", "k"),
    ],
)
def test_what_is_wrong_or_seldom_is_left_to_typer(command: str, line: str) -> None:
    assert quickly(command, shlex.split(line)) is None


FLAGS = [
    "--json",
    "--wide",
    "--yes",
    "--force",
    "--now",
    "--text",
    "--limit",
    "--tag",
    "-o",
    "--context",
    "--after",
    "--",
]
WORDS = st.lists(
    st.one_of(
        st.sampled_from([*FLAGS, "a", "b/c", "a=b", "3", "-1", "", "-", "json", "30d", "AES_128", "--text=x"]),
        st.text(max_size=4),
    ),
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(commands().keys() - NEVER_QUICK)), WORDS)
def test_whatever_is_read_quickly_is_read_as_typer_reads_it(command: str, words: list[str]) -> None:
    read_quickly = quickly(command, words)
    assert read_quickly is None or read_quickly == by_typer(command, words)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
    return {**kept, "STRONGROOM_CONFIG": str(tmp_path / "profiles.toml")}


def typed(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [STRONGROOM, *words], env=environment, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_a_usual_command_loads_no_typer(environment: dict[str, str]) -> None:
    program = (
        "import sys\nfrom strongroom.cli import quick, startup\nstartup.begin()\n"
        "status = quick.run(['profile', 'list', '--json'])\n"
        "print(status, sorted(name for name in sys.modules if name.startswith('typer.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["current"] == "dev"
    assert done.stderr == "0 ['typer.core', 'typer.main', 'typer.models']\n"


def test_errors_read_the_same_whoever_finds_them(environment: dict[str, str]) -> None:
    for words in (
        ("secret", "delete", "x", "--force"),
        ("secret", "delete", "x", "--force", "--after", "7d", "--yes"),
        ("key", "describe", ""),
        ("audit", "events", "--since", "yesterday"),
        ("encrypt", "k", "--text", "a", "--in", "b"),
        ("run", "--env", "a", "--", "true"),
        ("encrypt", "a/b", "--text", "x"),
        ("profile", "show", "none"),
    ):
        quick = typed(environment, *words)
        # What is written so is left to typer.
        slow = (
            typed(environment, *words[:-1], words[-1]) if words[0] == "run" else typed(environment, *words, "-otable")
        )
        assert (quick.returncode, quick.stderr) == (slow.returncode, slow.stderr), words
        assert quick.returncode in (2, 3)


def test_what_stands_for_typer_has_all_that_commands_ask_of_it() -> None:
    asked = set()
    for path in Path(declared.__file__).parent.glob("*.py"):
        if path.name not in ("app.py", "help.py", "quick.py", "declared.py"):
            asked |= {word for word in path.read_text().split() for word in [word.partition("typer.")[2]] if word}
    names = {name.split("(")[0].split(")")[0].split("[")[0].rstrip(",.:]`") for name in asked}
    names = {name for name in names if name.isidentifier()} - {"core", "main", "models"}
    assert {"Option", "Argument", "Typer", "BadParameter"} <= names
    assert [name for name in sorted(names) if not hasattr(declared, name)] == []
