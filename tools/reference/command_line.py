"""Every command of the command line, as its parser knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from strongroom.cli.app import app, sections
from strongroom.cli.command import COMMON_OPTIONS
from strongroom.cli.parser import record_of
from strongroom.cli.topics import TOPICS
from tools.reference.markdown import code, document, table

_LEAD = """\
This page is made from the parser (`python -m tools.reference.command_line`), and a test holds it to that. `--help`
behind any command says the same, and `strongroom help` what holds for all of them. `strongroom help REASON` explains
the reason of an error.
"""


def page() -> str:
    """The page."""
    return document("The command line", _lines())


def _lines() -> Iterator[str]:
    root: Any = get_command(app)
    context = root.make_context("strongroom", [], resilient_parsing=True)
    yield _LEAD
    yield "## Options of every command"
    yield ""
    some = root.get_command(context, "whoami")
    yield from _options([one for one in some.params if one.name in COMMON_OPTIONS], context)
    for heading, names in sections():
        yield f"## {heading}"
        yield ""
        for name in names:
            yield from _described(root.get_command(context, name), context, (name,))
    yield "## What holds for every command"
    yield ""
    for name, (title, text) in TOPICS.items():
        yield f"### {title}"
        yield ""
        yield f"`strongroom help {name}`"
        yield ""
        yield "```text"
        yield text
        yield "```"
        yield ""


def _described(command: Any, context: Any, words: tuple[str, ...]) -> Iterator[str]:
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            yield from _described(command.get_command(context, name), context, (*words, name))
        return
    path = " ".join(("strongroom", *words))
    own = command.make_context(path, [], resilient_parsing=True)
    yield f"### {path}"
    yield ""
    yield " ".join(command.help.split())
    yield ""
    yield "```console"
    yield from (f"$ {example}" for example in command.examples)
    yield "```"
    yield ""
    yield from _options([one for one in command.params if one.name not in COMMON_OPTIONS], own)


def _options(parameters: list[Any], context: Any) -> Iterator[str]:
    rows = []
    for parameter in parameters:
        record = record_of(parameter, context)
        if parameter.name == "help" or record is None:
            continue
        rows.append((code(record[0]), record[1]))
    if rows:
        yield from table(("", "what it is"), rows)


def main() -> None:
    """Writes the page to its place in the documentation."""
    (Path(__file__).resolve().parents[2] / "docs/cli.md").write_text(page())


if __name__ == "__main__":
    main()
