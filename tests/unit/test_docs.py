"""What README and docs show is what somebody copies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "deploy/k8s/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A whole command, with the lines that it goes on in.
COMMAND = re.compile(r"(?:^|[|;&(`\s])strongroom [a-z](?:[^\n`]|\\\n)*")
# What an argument, which every process of the machine sees, or a variable in front of a command must not be.
IN_AN_ARGUMENT = re.compile(r"--(?:text|secret|password|value|passphrase|pin)(?:[ =])(?!-)(?!…)\S")
IN_A_COMMAND = re.compile(
    r"(?:echo|printf) [^|\n]*\| *strongroom|<<< *\S|STRONGROOM_(?:TOKEN|CLIENT_KEY_SECRET)=(?!\$\()\S"
)
# That which is looked for in the log is no secret, nor is a ciphertext in a log's search.
LOOKS_FOR_TEXT = re.compile(r"strongroom audit events\b")


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_no_example_has_a_secret_in_an_argument(page: Path) -> None:
    text = page.read_text()
    commands = [command for command in COMMAND.findall(text) if not LOOKS_FOR_TEXT.search(command)]
    assert [command for command in commands if IN_AN_ARGUMENT.search(command)] == []
    assert IN_A_COMMAND.findall(text) == []


def test_the_examples_are_found() -> None:
    assert sum(len(COMMAND.findall(page.read_text())) for page in PAGES if page.exists()) > 50
