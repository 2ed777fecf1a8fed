"""Every reason that a service or the client can give is explained, and every command in an explanation exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from services.runtime.errors import Reason
from strongroom.cli.app import app
from strongroom.reasons import EXPLANATIONS

CLIENT = Path(__file__).parents[3] / "clients/python/strongroom"
_COMMAND = re.compile(r"`strongroom ([a-z][^`]*)`")


def test_every_reason_of_the_services_is_explained() -> None:
    assert {reason.value for reason in Reason} - EXPLANATIONS.keys() == set()


def test_every_reason_that_the_client_gives_is_explained() -> None:
    given = set(re.findall(r'StrongroomError\(\s*"([A-Z_]+)"', client_code()))
    assert len(given) > 15
    assert given - EXPLANATIONS.keys() == set()


def test_nothing_is_explained_that_nobody_gives() -> None:
    known = {reason.value for reason in Reason}
    code = client_code()
    assert [reason for reason in EXPLANATIONS if reason not in known and f'"{reason}"' not in code] == []


@pytest.mark.parametrize("reason", EXPLANATIONS)
def test_an_explanation_is_whole_sentences_and_names_commands_that_exist(reason: str) -> None:
    told = EXPLANATIONS[reason]
    for sentence in (told.cause, told.cure):
        assert sentence[0].isupper() or sentence[0] == "`"
        assert sentence.endswith(".")
    for words in _COMMAND.findall(f"{told.cause} {told.cure}"):
        assert is_command(words.split()), words


def client_code() -> str:
    """The client's own code, without the explanations."""
    modules = [path for path in CLIENT.rglob("*.py") if "_pb2" not in path.name and path.parent.name != "reasons"]
    return "".join(path.read_text() for path in modules)


def is_command(words: list[str]) -> bool:
    """Whether these words lead to a command whose further words are arguments and options."""
    found: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(found, "commands"):
            break
        if word not in found.commands:
            return False
        found = found.commands[word]
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return all(word in options for word in words if word.startswith("--"))
