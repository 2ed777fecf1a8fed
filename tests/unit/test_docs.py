"""What README and docs show is what somebody copies, and what they name is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tools.reference import PAGES as GENERATED

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "services/README.md",
    ROOT / "deploy/k8s/README.md",
    ROOT / "tests/vectors/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
# What changed once is named as it was called then.
OF_TODAY = [page for page in PAGES if page.exists() and page.name != "CHANGELOG.md"]
# A whole command, with the lines that it goes on in.
COMMAND = re.compile(r"(?:^|[|;&(`\s])strongroom [a-z](?:[^\n`]|\\\n)*")
# What an argument, which every process of the machine sees, or a variable in front of a command must not be.
IN_AN_ARGUMENT = re.compile(r"--(?:text|secret|password|value|passphrase|pin)(?:[ =])(?!-)(?!…)\S")
IN_A_COMMAND = re.compile(
    r"(?:echo|printf) [^|\n]*\| *strongroom|<<< *\S|STRONGROOM_(?:TOKEN|CLIENT_KEY_SECRET)=(?!\$\()\S"
)
# That which is looked for in the log is no secret, nor is a ciphertext in a log's search.
LOOKS_FOR_TEXT = re.compile(r"strongroom audit events\b")

CODE = re.compile(r"`([^`\n]+)`")
A_PATH = re.compile(r"(?:bench|clients|deploy|docs|protos|services|tests|tools|\.ci)/[\w./*-]+")
A_MODULE = re.compile(r"(?:bench|deploy|services|tools)(?:\.[a-z_][a-z0-9_]*)+")
A_METHOD = re.compile(r"(?P<kind>[A-Z]\w+)\.(?P<method>[A-Za-z_]\w*)")
A_FUNCTION = re.compile(r"(?P<module>[a-z_]+)\.(?P<function>[a-z_]+)")
A_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Names of the internal services are no paths.
NO_PATHS = re.compile(r"services/(?:keystore|crypto|secrets|audit)(?![\w/.-])")
# Its own folder is named where the page stands beside it, as `keystore/keys/keys.py` in services/README.md.
BESIDE = {"services/README.md": re.compile(r"(?:keystore|crypto|secrets|audit|runtime)/[\w./-]*")}


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_no_example_has_a_secret_in_an_argument(page: Path) -> None:
    text = page.read_text()
    commands = [command for command in COMMAND.findall(text) if not LOOKS_FOR_TEXT.search(command)]
    assert [command for command in commands if IN_AN_ARGUMENT.search(command)] == []
    assert IN_A_COMMAND.findall(text) == []


def test_the_examples_are_found() -> None:
    assert sum(len(COMMAND.findall(page.read_text())) for page in PAGES if page.exists()) > 50


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in paths_in(page) if not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: page.name)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    assert [module for module in modules_in(page) if not is_module(module)] == []


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    # The site has them, whose builder follows every link.
    generated = {ROOT / "docs" / name for name in GENERATED}
    broken = []
    for link in A_LINK.findall(page.read_text()):
        place, _, section = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / place).resolve() if place else page
        if target in generated:
            continue
        if not target.exists() or (section and section not in sections_of(target)):
            broken.append(link)
    assert broken == []


def test_every_method_that_the_page_on_development_names_exists() -> None:
    text = (ROOT / "docs/development.md").read_text()
    named = {name for name in CODE.findall(text) if A_METHOD.fullmatch(name) and not name.endswith(".md")}
    classes = methods_of_classes()
    assert len(named) > 15
    assert [name for name in sorted(named) if not is_method(name, classes)] == []


def test_every_function_that_the_page_on_development_names_exists() -> None:
    text = (ROOT / "docs/development.md").read_text()
    named = [match.groups() for code in CODE.findall(text) if (match := A_FUNCTION.fullmatch(code))]
    functions = [
        (module, function) for module, function in named if module != "tool" and function not in ("md", "py", "toml")
    ]
    assert functions
    assert [(one, function) for one, function in functions if not is_function(one, function)] == []


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in OF_TODAY for name in re.findall(r"`make ([a-z0-9-]+)", page.read_text())}
    assert named - targets == set()


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    records = sorted((ROOT / "docs/decisions").glob("0*.md"))
    assert len(records) >= 10
    assert [record.name for record in records if f"({record.name})" not in index] == []
    sections = ("**Context.**", "**Decision.**", "**Reasons.**", "**Consequences.**", "**Reconsider when**")
    assert [(record.name, one) for record in records for one in sections if one not in record.read_text()] == []


def paths_in(page: Path) -> Iterator[str]:
    """The paths that a page names, from the top of the repository; with `*` they are patterns."""
    beside = BESIDE.get(str(page.relative_to(ROOT)))
    for code in CODE.findall(page.read_text()):
        if beside and beside.fullmatch(code):
            yield str((page.parent / code).relative_to(ROOT))
        else:
            yield from (path.rstrip("/.") for path in A_PATH.findall(code) if not NO_PATHS.fullmatch(path))


def modules_in(page: Path) -> Iterator[str]:
    """The modules that a page names: `python -m services.keystore`, `services.crypto.primitives.xaes`."""
    for code in re.findall(r"(?:python -m |`)([a-z0-9_.]+)", page.read_text()):
        if A_MODULE.fullmatch(code):
            yield code


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def sections_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE) if page.suffix == ".md" else []
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@cache
def methods_of_classes() -> dict[str, str]:
    """The body of each class of services and client, by its name."""
    modules = [path for folder in ("services", "clients/python") for path in sorted((ROOT / folder).rglob("*.py"))]
    bodies: dict[str, str] = {}
    for module in modules:
        if "_pb2" in module.name:
            continue
        for match in re.finditer(r"^class (\w+)(.*?)(?=^\S|\Z)", module.read_text(), re.MULTILINE | re.DOTALL):
            bodies[match[1]] = bodies.get(match[1], "") + match[2]
    return bodies


def is_function(module: str, function: str) -> bool:
    """Whether a module of this name, in whatever room, defines the function."""
    return any(f"def {function}(" in path.read_text() for path in (ROOT / "services").rglob(f"{module}.py"))


def is_method(name: str, classes: dict[str, str]) -> bool:
    """Whether `Class.method` is defined, or is a method of a contract."""
    kind, method = name.split(".")
    contracts = "\n".join(path.read_text() for path in (ROOT / "protos").rglob("*.proto"))
    return f"def {method}(" in classes.get(kind, "") or (
        f"service {kind} " in contracts and f"rpc {method}(" in contracts
    )
