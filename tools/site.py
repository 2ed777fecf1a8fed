"""The documentation as a site: where each page stands, which are generated, and what links that leave docs/ become.

MkDocs calls the functions whose names begin with `on_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath
from typing import Any

from tools.reference import PAGES

_DOCS = Path(__file__).resolve().parent.parent / "docs"
# A name that ends in `*` stands for every page that no other line names.
NAVIGATION: dict[str, list[str]] = {
    "Start": ["index.md", "install.md", "concepts.md", "faq.md", "comparison.md"],
    "Tutorials": [
        "tutorials/developer.md",
        "tutorials/operations.md",
        "tutorials/security-officer.md",
        "tutorials/isv.md",
        "isv.md",
    ],
    "How to": ["how-to/*", "server-side-encryption.md"],
    "Software that speaks something else": ["doors/*"],
    "Languages": ["languages/index.md", "languages/*"],
    "Subjects": ["keys.md", "access.md", "policies.md", "secrets.md", "audit.md", "encryption.md"],
    "Run it": ["operations.md", "threat-model.md", "releases.md"],
    "Reference": [
        "cli.md",
        "reference/errors.md",
        "reference/python.md",
        "reference/configuration.md",
        "reference/metrics.md",
        "reference/events.md",
        "formats.md",
        "reference/grpc/*",
    ],
    "Build on it": ["development.md", "decisions/README.md", "decisions/*"],
    "More": ["*"],
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """Gives each page its place."""
    pages = [str(path.relative_to(_DOCS)) for path in sorted(_DOCS.rglob("*.md"))]
    config.nav = navigation([*pages, *PAGES])
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are generated."""
    from mkdocs.structure.files import File

    for path, write in PAGES.items():
        files.append(File.generated(config, path, content=write()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Readies a page for the site."""
    return within_the_site(markdown, page.file.src_uri)


def navigation(pages: list[str]) -> list[dict[str, list[str]]]:
    """The sections with their pages, each page once; a section without any is left out."""
    named = {name for names in NAVIGATION.values() for name in names}
    left = [page for page in pages if page not in named]
    sections: list[dict[str, list[str]]] = []
    for title, names in NAVIGATION.items():
        found: list[str] = []
        for name in names:
            matching = [page for page in left if page.startswith(name[:-1])] if name.endswith("*") else [name]
            found += [page for page in matching if page in pages]
            left = [page for page in left if page not in matching]
        if found:
            sections.append({title: found})
    return sections


def within_the_site(markdown: str, page: str) -> str:
    """The text, with the name of a file in place of each link to one that is not part of the site."""
    parts = _FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda link: _target(link, page), part) for part in parts
    )


def pages_outside(markdown: str, page: str) -> Iterator[str]:
    """The files outside docs/ that a page links to, from the top of the repository."""
    for link in _LINK.finditer(markdown):
        if (outside := _outside(link[3], page)) is not None:
            yield outside


def _target(link: re.Match[str], page: str) -> str:
    outside = _outside(link[3], page)
    if outside is None:
        return link[0]
    text = link[2]
    return text if outside.rstrip("/") in text else f"{text} (`{outside}`)"


def _outside(target: str, page: str) -> str | None:
    """Where a link leads that leaves docs/; None for one that does not."""
    if re.match(r"[a-z]+:|#", target):
        return None
    place = normpath(f"docs/{page}/../{target.partition('#')[0]}")
    return None if place.startswith("docs/") else place
