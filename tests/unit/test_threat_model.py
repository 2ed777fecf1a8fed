"""docs/threat-model.md: what it says is shown by a test, is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/threat-model.md").read_text()
MODULES = sorted((ROOT / "tests").rglob("test_*.py"))


def test_every_file_that_the_threat_model_names_exists() -> None:
    named = re.findall(r"`((?:tests|services|bench|docs|deploy|clients|tools)/[^`\s]+)`", TEXT)
    assert len(named) > 25
    # The name of a service is no path.
    assert [path for path in named if "." in path and not (ROOT / path).is_file()] == []
    assert [path for path in named if path.startswith("tests/") and not (ROOT / path).exists()] == []


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 5
    defined = set(re.findall(r"^ *def (test_\w+)\(", "\n".join(map(Path.read_text, MODULES)), re.MULTILINE))
    assert named - defined == set()


def test_every_module_that_the_threat_model_names_tests_something() -> None:
    named = set(re.findall(r"`(tests/[^`\s]+\.py)`", TEXT))
    assert [path for path in sorted(named) if "\ndef test_" not in (ROOT / path).read_text()] == []


def test_every_cannot_names_the_test_that_shows_it() -> None:
    rows = [line.strip().strip("|").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
    promises = {cells[0].strip(): cells[-1] for cells in rows if cells[0].strip() not in ("who", "store")}
    assert len(promises) > 30
    assert [who for who, cannot in promises.items() if not re.search(r"`(?:tests/[^`]+|test_\w+)`", cannot)] == []
