"""A link that leads nowhere makes no file where somebody else has pointed it, unless `--force` was given."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import strongroom
from strongroom.atomic import replacing, write_own
from strongroom.cli import command as commands_module
from strongroom.errors import StrongroomError
from strongroom.names import Names
from strongroom.tlog.witness import WitnessState, origin_hash
from strongroom.tracing import SpanFile, Tracing
from tests.support.cli import run


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is not there, and that links lead to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "victim"


def events(*_: object, **__: object) -> list[Any]:
    return []


LOGS = SimpleNamespace(
    get_checkpoint=lambda _: SimpleNamespace(tree_size=1, log="logs/a", note=b"note"),
    get_tile=lambda *_: b"tile",
    get=lambda _: SimpleNamespace(keys=[SimpleNamespace(verifier_key="key")]),
)
CLIENT = SimpleNamespace(
    audit=SimpleNamespace(logs=LOGS, events=SimpleNamespace(list=events, stream=events)), names=Names("accounts/main")
)

COMMANDS: dict[str, tuple[str, list[str]]] = {
    "the state of a tail": ("state", ["audit", "tail", "--state", "state"]),
    "exported events": ("out", ["audit", "export", "out"]),
    "an exported tile": ("folder/tile/0/000.p/1", ["audit", "export", "folder", "--format", "tiles"]),
    "exported keys": ("folder/keys", ["audit", "export", "folder", "--format", "tiles"]),
    "an exported checkpoint": ("folder/checkpoint", ["audit", "export", "folder", "--format", "tiles"]),
    "a folder": ("folder", ["audit", "export", "folder", "--format", "tiles"]),
    "profiles": ("profiles.toml", ["profile", "create", "p", "--account", "a", "--crypto", "127.0.0.1:1"]),
    "a sealed file": ("out", ["file", "encrypt", "given", "--to", "out", "--key", "k"]),
    "an opened file": ("out", ["file", "decrypt", "given", "--to", "out"]),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_no_command_follows_a_link_that_leads_nowhere(what: str, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_module.Session, "client", CLIENT)
    link, words = COMMANDS[what]
    Path("given").write_bytes(b"content")
    Path(link).parent.mkdir(parents=True, exist_ok=True)
    Path(link).symlink_to(victim)
    ended = run(*words)
    assert ended.exit_code, ended.output
    assert not victim.exists()
    assert Path(link).is_symlink()
    assert [path.name for path in victim.parent.iterdir()] == []


WRITERS: dict[str, Callable[[Path], object]] = {
    "own": lambda path: write_own(path, b"x"),
    "witness": lambda path: WitnessState(path.parent).keep("log.example/a", b"x"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_writer_follows_a_link_that_leads_nowhere(writer: str, victim: Path, tmp_path: Path) -> None:
    link = tmp_path / (f"{origin_hash('log.example/a')}.checkpoint" if writer == "witness" else "own")
    link.symlink_to(victim)
    with pytest.raises(StrongroomError, match="leads nowhere"):
        WRITERS[writer](link)
    assert not victim.exists()
    # One that leads to a file is followed: somebody keeps it there.
    victim.write_bytes(b"of before")
    WRITERS[writer](link)
    assert victim.read_bytes() == b"x"


def test_a_trace_is_not_written_where_a_link_leads_nowhere(victim: Path, tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "me.jsonl").symlink_to(victim)
    tracing = Tracing(1.0, SpanFile(tmp_path / "traces", "me"))
    with tracing.span("call", attributes={}):
        pass
    assert not victim.exists()
    victim.touch()
    for _ in range(2):
        with tracing.span("call", attributes={}):
            pass
    assert len(victim.read_text().splitlines()) == 2


def test_a_link_is_followed_where_somebody_asks_for_it(victim: Path) -> None:
    link = Path("link")
    link.symlink_to(victim)
    with replacing(link, overwrite=True) as file:
        file.write(b"x")
    assert victim.read_bytes() == b"x"


# Each of them in one place: those that refuse such links, the null device, and files of another file system.
_OPENERS = {
    "atomic.py": 1,
    "tracing.py": 1,
    "cli/run.py": 1,
    "cli/main.py": 1,
    "encryption/adapters/fsspec_files.py": 1,
}


def test_nothing_else_makes_files() -> None:
    package = Path(strongroom.__file__).parent
    found: dict[str, int] = {}
    for path in package.rglob("*.py"):
        made = sum(map(_makes_a_file, ast.walk(ast.parse(path.read_text())))) if "_pb2" not in path.name else 0
        if made:
            found[str(path.relative_to(package))] = made
    assert found == _OPENERS


def _makes_a_file(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    words = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    flags = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    if name == "open":
        return "O_CREAT" in flags or any(set(mode) <= set("wxabt+") and set(mode) & set("wxa") for mode in words)
    # `write_bytes` of the command line is no method.
    is_method = isinstance(node.func, ast.Attribute)
    return name in ("mkstemp", "touch") or (name in ("write_text", "write_bytes") and is_method)
