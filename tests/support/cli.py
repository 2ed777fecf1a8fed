"""Every command of the command line, as its parser knows it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from unittest.mock import patch

from typer.main import get_command
from typer.testing import CliRunner, Result

from strongroom.cli.app import app


@cache
def parser() -> Any:
    """The command line's own parser."""
    return get_command(app)


@cache
def commands() -> Mapping[str, Any]:
    """Every command by its words: `key version destroy`."""
    return dict(_below(parser(), parser().make_context("strongroom", [], resilient_parsing=True), ()))


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """What comes of a command line, in this process."""
    # By one parser for all: to make the commands anew takes longer than most of them do.
    with patch("typer.testing._get_command", lambda _: parser()):
        return CliRunner().invoke(app, arguments, input=stdin)


def parsed(line: str) -> Any:
    """The context of a whole command line as it is typed, up to a pipe or redirection. Raises what its parser does."""
    words = shlex.split(line)
    end = next((place for place, word in enumerate(words) if word in ("|", "<", ">", ">>")), len(words))
    assert words[0] == "strongroom"
    found, context, rest = parser(), None, words[1:end]
    while hasattr(found, "list_commands"):
        context = found.make_context(found.name or "strongroom", rest[:0], parent=context, resilient_parsing=True)
        following = found.get_command(context, rest[0])
        assert following is not None, f"there is no {rest[0]} in {line}"
        found, rest = following, rest[1:]
    return found.make_context(found.name, rest, parent=context)


def _below(found: Any, context: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not hasattr(found, "list_commands"):
        yield " ".join(words), found
        return
    for name in found.list_commands(context):
        yield from _below(found.get_command(context, name), context, (*words, name))
