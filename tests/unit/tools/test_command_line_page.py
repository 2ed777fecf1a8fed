"""The page of the command line is what its parser has."""

from __future__ import annotations

from pathlib import Path

from tests.support.cli import commands
from tools.reference import command_line

PAGE = Path(__file__).parents[3] / "docs/cli.md"


def test_the_page_is_made_from_the_parser() -> None:
    assert PAGE.read_text() == command_line.page(), "python -m tools.reference.command_line writes it"


def test_every_command_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [command for command in commands() if f"### strongroom {command}\n" not in text] == []
