"""Every command that a page names, in a block or within a sentence, is one that there is, with options that it has.

Blocks that a mesh can serve are run too (tests/mesh/test_documents.py); this holds the others as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import parser

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    # Labels of formats begin with the product's name.
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "formats.md"),
    *sorted(page for page in (ROOT / "clients").glob("*/**/README.md") if "node_modules" not in page.parts),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
# A command up to where the shell, or the sentence, goes on.
COMMAND = re.compile(r"(?:^|[|;&(`\s])strongroom( (?:--?)?[a-z](?:[^\n`|;<>&]|\\\n)*)", re.MULTILINE)
# In a sentence that is no code, the word is the product's name.
IN_CODE = re.compile(r"^```(?:\w+)?\n.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
A_PROGRAM = re.compile(r"```(?!console|bash|sh\b|shell)\w+\n")
OF_THE_PROGRAM = {"--help", "-h", "--version", "--install-completion", "--show-completion"}


def commands_in(text: str) -> Iterator[str]:
    for code in IN_CODE.findall(text):
        if A_PROGRAM.match(code):
            continue
        yield from (found.replace("\\\n", " ") for found in COMMAND.findall(code))


def wrong_in(command: str) -> str:
    """What of a command there is not; nothing where all of it is there."""
    found: Any = parser()
    context = found.make_context("strongroom", [], resilient_parsing=True)
    words = command.split()
    while words and hasattr(found, "list_commands") and not words[0].startswith("-"):
        following = found.get_command(context, words[0])
        if following is None:
            # `strongroom migrate …`, `strongroom help TOPIC`, `strongroom key version create|destroy`
            return "" if not re.fullmatch(r"[a-z][a-z-]*", words[0]) else words[0]
        found, words = following, words[1:]
    known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word == "--":
            break
        option = re.match(r"--?[a-z][a-z-]*", word)
        if option and option[0] not in known | OF_THE_PROGRAM:
            return option[0]
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    wrong = [(command.strip(), told) for command in commands_in(page.read_text()) if (told := wrong_in(command))]
    assert wrong == []


def test_commands_are_found_and_what_is_wrong_with_them() -> None:
    assert sum(len(list(commands_in(page.read_text()))) for page in PAGES) > 400
    for command, told in (
        (" secret put-value x", "put-value"),
        (" secret create x --file y", "--file"),
        (" secret put x --value-file y", ""),
        (" run --env A=secret:b -- env --chdir /", ""),
    ):
        assert wrong_in(command) == told
