"""What the command line prints never tells the terminal what to do."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from rich.console import Console, Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from strongroom import cli
from strongroom.cli import command, forms, show, trace
from strongroom.cli.command import _print_shown
from strongroom.cli.forms import document_text
from strongroom.cli.tables import Facts, Look, Table
from strongroom.cli.terminal import visible, write_line
from strongroom.cli.yaml import yaml_text

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


def span(text: str = HOSTILE) -> trace.Span:
    """A span that somebody else named."""
    now = datetime.now(UTC)
    return trace.Span(text, text, text, "s", "", now, now, "ERROR", {"rpc.outcome": text})


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


# Letters are joined and parted by the second and third, words by the first; the others are seen.
_SEEN = "\u00ad\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
UNSEEN = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _SEEN
]


def _of(text: str) -> dict[str, Any]:
    document: dict[str, Any] = {"name": text, text: "x", "list": [text, {text: text}]}
    return document


WAYS: dict[str, Callable[[str], object]] = {
    "json": lambda text: sys.stdout.write(document_text(_of(text), "json")),
    "yaml": lambda text: sys.stdout.write(document_text(_of(text), "yaml")),
    "name": lambda text: sys.stdout.write(document_text(_of(text), "name")),
    "a line of json": lambda text: write_line(json.dumps(_of(text))),
    "a line": write_line,
    "a table": lambda text: _print_shown(Table((text,), [(text,), ({text: text},), ([text],)]), Look()),
    "a table on a terminal": lambda text: _print_shown(
        Table((text,), [(text,)], prose=(text,)), Look(80, colour=False)
    ),
    "facts": lambda text: _print_shown(Facts({"name": text, text: "value"}), Look()),
    "text": lambda text: _print_shown(text, Look()),
    "an error": lambda text: command.complain(text, text, text),
    "a note": forms.warn,
    "a fault": lambda text: cli._failed(ImportError(text)),
    "a trace": lambda text: console_of(trace._drawn([span(text)])),
    "a tree": lambda text: console_of(Tree(text)),
}


def console_of(shown: RenderableType) -> None:
    console = show.console()
    console.file = sys.stdout
    console.print(shown, soft_wrap=True)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_that_is_not_seen_is_printed_in_any_form(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not one that turns a text around, nor one that makes two names look alike."""
    assert len(UNSEEN) > 2_000
    # Some at a time: rich is slow with long lines.
    for start in range(0, len(UNSEEN), 500):
        WAYS[way]("a" + "b".join(UNSEEN[start : start + 500]) + "c")
    printed = "".join(capsys.readouterr())
    assert printed
    assert set(printed).isdisjoint(set(UNSEEN) - {"\n"})


def test_yaml_that_is_escaped_is_the_same_text() -> None:
    text = "".join(UNSEEN) + "".join(_SEEN)
    printed = yaml_text({"text": "".join(character for character in text if not 0xD800 <= ord(character) < 0xE000)})
    assert yaml.safe_load(printed)["text"] == "".join(c for c in text if not 0xD800 <= ord(c) < 0xE000)


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("a\nb\x1b[A")
    assert capsys.readouterr().out == "a\\nb\\x1b[A\n"


@pytest.mark.parametrize("text", ["", "plain", "été 日本語 👩‍👩‍👧", "soft\u00adhyphen", "a\u00a0b"])
def test_texts_of_every_language_stay(text: str) -> None:
    assert visible(text) == text
