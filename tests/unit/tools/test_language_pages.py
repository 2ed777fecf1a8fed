"""Programs in other languages that a page shows are parts of files which tests compile: `clients/LANGUAGE/examples`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# By the fence's language: the client whose examples have the program.
CLIENTS = {"go": "go", "ts": "node", "js": "node", "java": "java", "rust": "rust"}
OTHERS = {"c", "cpp", "csharp", "javascript", "kotlin", "php", "ruby", "scala", "typescript"}
# No client's build could compile them: there is none, or the page is about stubs that readers generate.
BY_HAND = ROOT / "docs/languages/rust.md"
NOT_COMPILED = {"docs/languages/csharp.md": {"csharp"}}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "clients").glob("*/README.md")),
    ROOT / "README.md",
]


def programs() -> Iterator[tuple[Path, str, str]]:
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text()):
            if language in CLIENTS and page != BY_HAND:
                yield page, language, text


def lines(text: str) -> str:
    """The lines of a program, however they are indented."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@pytest.mark.parametrize(("page", "language", "text"), [pytest.param(*one, id=one[0].stem) for one in programs()])
def test_a_program_that_a_page_shows_is_compiled(page: Path, language: str, text: str) -> None:
    examples = (ROOT / "clients" / CLIENTS[language] / "examples").rglob("*.*")
    assert any(lines(text) in lines(example.read_text()) for example in examples), page


def test_every_client_shows_a_program() -> None:
    assert {CLIENTS[language] for _, language, _ in programs()} == set(CLIENTS.values())


def test_only_pages_of_languages_without_a_client_show_programs_that_nothing_compiles() -> None:
    for page in PAGES:
        found = {language for language, _ in FENCE.findall(page.read_text())} & OTHERS
        assert found <= NOT_COMPILED.get(str(page.relative_to(ROOT)), set()), page
