"""The Python client: what it offers, as `mkdocstrings` shows it from the docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import strongroom
from strongroom import encryption
from tools.reference.markdown import document

_PACKAGE = Path(strongroom.__file__).parent
_LEAD = """\
`pip install strongroom` installs the client. Everything that a program holds comes from `strongroom` itself; what is
below a client is grouped by its subject: `client.keys`, `client.secrets`, `client.access`, `client.audit`,
`client.mesh`.
"""


def page() -> str:
    """The page."""
    return document("Python client", _lines())


def parts() -> Iterator[tuple[str, str]]:
    """Every class that stands below a client, with the path that a program takes to it: `client.access.grants`."""
    yield from _below("client", _PACKAGE / "client.py", "Client")


def _lines() -> Iterator[str]:
    yield _LEAD
    for heading, package in (("What a program imports", strongroom), ("Encryption SDK", encryption)):
        yield f"## {heading}"
        yield ""
        for name in package.__all__:
            yield f"::: {package.__name__}.{name}"
            yield "    options:"
            yield "      heading_level: 3"
            yield ""
    yield "## Below a client"
    yield ""
    for path, name in parts():
        yield f"### {path}"
        yield ""
        yield f"::: {name}"
        yield "    options:"
        yield "      heading_level: 4"
        yield "      show_root_heading: false"
        yield "      show_root_toc_entry: false"
        yield ""


def _below(path: str, module: Path, name: str) -> Iterator[tuple[str, str]]:
    """The parts that a class loads when they are first asked for: cached properties that import what they answer."""
    tree = ast.parse(module.read_text())
    owner = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    for function in owner.body:
        if not isinstance(function, ast.FunctionDef) or function.name.startswith("_"):
            continue
        for imported in function.body:
            if isinstance(imported, ast.ImportFrom) and imported.module and _is_cached_property(function):
                part = imported.names[0].name
                yield f"{path}.{function.name}", f"{imported.module}.{part}"
                home = _PACKAGE.parent / f"{imported.module.replace('.', '/')}.py"
                yield from _below(f"{path}.{function.name}", home, part)


def _is_cached_property(function: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "cached_property" for one in function.decorator_list)
