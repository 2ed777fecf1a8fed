"""What the command line prints never tells the terminal what to do."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rich.console import Console, Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from strongroom.cli import command, show, trace
from strongroom.cli.terminal import visible, write_line

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x00\x08\r\x7f\u202egnp.exe\u2066\u2028[bold]x[/bold]:boom:"
# What rich itself writes: colours and styles.
_STYLES = re.compile(r"\x1b\[[0-9;]*m")

PRINTED: dict[str, Callable[[], RenderableType]] = {
    "table": lambda: show.table(("name", HOSTILE), [(HOSTILE, {HOSTILE: HOSTILE}), (1, None)]),
    "facts": lambda: show.facts({"name": HOSTILE, HOSTILE: "value"}),
    "text": lambda: HOSTILE,
    "styled text": lambda: Text(HOSTILE, style="red"),
    "group": lambda: Group(HOSTILE, Text(HOSTILE)),
    "tree": lambda: Tree(HOSTILE),
    "trace": lambda: trace._drawn([span()]),
}


def span() -> trace.Span:
    """A span that somebody else named."""
    now = datetime.now(UTC)
    return trace.Span(HOSTILE, HOSTILE, HOSTILE, "s", "", now, now, "ERROR", {"rpc.outcome": HOSTILE})


@pytest.mark.parametrize("what", PRINTED)
@pytest.mark.parametrize("colours", [False, True])
def test_nothing_printed_holds_a_control_sequence(what: str, colours: bool) -> None:
    console = show.console()
    console.file = io.StringIO()
    if colours:
        console._color_system = Console(force_terminal=True, color_system="truecolor")._color_system
    console.print(PRINTED[what](), soft_wrap=True)
    printed = _STYLES.sub("", console.file.getvalue()) if colours else console.file.getvalue()
    assert all(character == "\n" or character.isprintable() for character in printed)
    assert "\\x1b" in printed
    assert "[bold]x[/bold]:" in printed.replace("\n", "")


def test_an_error_is_one_line_and_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    command.complain(f"no key {HOSTILE}\nerror: other", "KEY_NOT_FOUND", HOSTILE)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed[:-1].isprintable()
    assert "\\x1b]0;owned" in printed


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("a\nb\x1b[A")
    assert capsys.readouterr().out == "a\\nb\\x1b[A\n"


@pytest.mark.parametrize("text", ["", "plain", "été 日本語 👩‍👩‍👧", "soft\u00adhyphen", "a\u00a0b"])
def test_texts_of_every_language_stay(text: str) -> None:
    assert visible(text) == text
