"""The site: every page has one place, and what links lead out of it to is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import site
from tools.reference import PAGES

DOCS = Path(__file__).parents[3] / "docs"
WRITTEN = [str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))]


def test_every_page_has_one_place() -> None:
    placed = [page for section in site.navigation([*WRITTEN, *PAGES]) for pages in section.values() for page in pages]
    assert sorted(placed) == sorted({*WRITTEN, *PAGES})


def test_a_page_that_nobody_has_placed_is_found_under_more() -> None:
    assert site.navigation(["keys.md", "new.md", "how-to/new.md"]) == [
        {"How to": ["how-to/new.md"]},
        {"Subjects": ["keys.md"]},
        {"More": ["new.md"]},
    ]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[keys](keys.md#specs)", "[keys](keys.md#specs)"),
        ("[Cedar](https://docs.cedarpolicy.com)", "[Cedar](https://docs.cedarpolicy.com)"),
        ("[below](#below)", "[below](#below)"),
        ("[Kubernetes](../deploy/k8s)", "Kubernetes (`deploy/k8s`)"),
        ("[`deploy/k8s/`](../deploy/k8s)", "`deploy/k8s/`"),
        ("a [b](../../x.md) c [d](reference/errors.md)", "a b (`../x.md`) c [d](reference/errors.md)"),
        ("```\n[x](../y)\n```", "```\n[x](../y)\n```"),
    ],
)
def test_a_link_that_leaves_the_site_names_its_file(written: str, shown: str) -> None:
    assert site.within_the_site(written, "page.md") == shown


def test_files_that_pages_name_outside_the_site_are_there() -> None:
    named = {outside for page in WRITTEN for outside in site.pages_outside((DOCS / page).read_text(), page)}
    assert named
    assert [path for path in named if not (DOCS.parent / path).exists()] == []
