"""What commands print: whole, in the form that was asked for, and never as Python writes it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from strongroom.cli import tables
from strongroom.cli.complaints import Status
from strongroom.cli.forms import form_in, names_of
from strongroom.cli.tables import Look
from strongroom.cli.yaml import yaml_text
from tests.support.cli import run

LONG = "accounts/main/clientKeys/ck-" + "q3b7" * 40
PYTHON = re.compile(r"datetime|timedelta|True|False|None|\{'|\['|\('|b'|Path\(|Record\(")


@dataclass(frozen=True)
class Record:
    """Something that a call answers."""

    name: str
    enabled: bool
    parts: tuple[str, ...]


VALUES: dict[str, Any] = {
    "list": ["a", "b"],
    "tuple": ("a", 1),
    "empty list": [],
    "true": True,
    "false": False,
    "none": None,
    "span": timedelta(days=30, hours=4),
    "no span": timedelta(),
    "time": datetime(2026, 11, 24, 2, 25, tzinfo=UTC),
    "bytes": b"\x00\xff",
    "mapping": {"b": True, "a": timedelta(minutes=5)},
    "nested": {"checks": [{"accepted": True, "took": timedelta(seconds=3)}, {"accepted": False}]},
    "record": Record("r", True, ("a", "b")),
    "records": [Record("r", False, ())],
    "path": Path("/tmp/x"),  # noqa: S108
    "number": 5.0,
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("local", [False, True])
def test_no_value_is_shown_as_python_writes_it(name: str, local: bool) -> None:
    look = Look(local_times=local)
    shown = [*tables.facts({name: VALUES[name]}).lines(look), *tables.table((name,), [(VALUES[name],)]).lines(look)]
    assert not PYTHON.search("\n".join(shown).replace(name, ""))


def test_values_are_shown_as_options_take_them() -> None:
    assert tables.text_of(True) == "yes"
    assert tables.text_of(["a", "b"]) == "a, b"
    assert tables.text_of(timedelta(days=30)) == "30d"
    assert tables.text_of(timedelta(hours=1, minutes=30)) == "1h 30m"
    assert tables.text_of({"stage": 2, "other": None}) == "stage=2"
    assert tables.text_of(VALUES["nested"]) == "checks={{accepted=yes, took=3s}, {accepted=no}}"


def test_times_say_their_zone() -> None:
    time = datetime(2026, 11, 24, 2, 25, tzinfo=UTC)
    assert tables.text_of(time) == "2026-11-24 02:25:00Z"
    assert re.fullmatch(r"2026-11-2\d \d\d:\d\d:00[+-]\d\d:\d\d", tables.text_of(time, Look(local_times=True)))


@pytest.mark.parametrize("width", [None, 20, 80])
def test_no_name_id_or_secret_is_ever_cut_or_wrapped(width: int | None) -> None:
    rows = [(LONG, "some words about it " * 20, LONG)]
    printed = tables.table(("client key", "description", "principal"), rows, prose=("description",)).lines(Look(width))
    assert len(printed) == 2
    assert printed[1].count(LONG) == 2
    assert any(LONG in line for line in tables.facts({"secret": LONG}).lines(Look(width)))


def test_a_narrow_terminal_shows_words_in_part_and_a_pipe_shows_them_whole() -> None:
    shown = tables.table(("key", "description"), [("k", "word " * 40)], prose=("description",))
    assert all(len(line) <= 40 for line in shown.lines(Look(40)))
    assert "…" in shown.lines(Look(40))[1]
    assert ("word " * 40).strip() in shown.lines(Look())[1]


def test_columns_stand_below_each_other_also_with_wide_characters() -> None:
    printed = tables.table(("a", "b"), [("日本", "x"), ("é", "y"), ("abcd", "z")]).lines(Look())
    assert [tables.width(line.rpartition("  ")[0]) <= 4 for line in printed]
    assert [tables.width(line[: line.index(letter)]) for line, letter in zip(printed[1:], "xyz", strict=True)] == [
        6
    ] * 3


def test_colours_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tables.table(("state",), [("ENABLED",)])
    assert "\x1b[32mENABLED\x1b[0m" in shown.lines(Look(colour=True))[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert Look.of_output() == Look()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Look.of_output().colour
    assert Look.of_output(wide=True).width is None


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), DOCUMENTS, max_size=4))
def test_every_reader_of_yaml_reads_what_was_written(document: Mapping[str, Any]) -> None:
    assert yaml.safe_load(yaml_text(document)) == json.loads(json.dumps(document))


def test_yaml_reads_well() -> None:
    document = {
        "name": "accounts/main/keys/k",
        "tags": {"on": "yes", "n": "1"},
        "keys": [{"a": 1}, {"b": []}],
        "x": None,
    }
    assert yaml_text(document) == (
        'name: accounts/main/keys/k\ntags:\n  "on": "yes"\n  "n": "1"\nkeys:\n  - a: 1\n  - b: []\nx: null\n'
    )


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"name": "k", "id": "x"}, ["k"]),
        ({"keys": [{"name": "a"}, {"name": "b"}]}, ["a", "b"]),
        ({"events": [{"id": "e", "principal": "p"}]}, ["e"]),
        ({"state": "OK", "services": [{"service": "crypto"}]}, ["crypto"]),
        ({"current": "dev", "profiles": {"dev": {}, "live": {}}}, ["dev", "live"]),
        ({"keys": []}, []),
        ({"ciphertext": "…", "key_version": "v"}, ["v"]),
    ],
)
def test_names_alone_are_a_line_each(document: Mapping[str, Any], names: list[str]) -> None:
    assert names_of(document) == names


@pytest.mark.parametrize("form", ["json", "yaml", "name", "table"])
def test_every_form_is_printed(form: str) -> None:
    for asked in (["-o", form], [f"--output={form}"], ["--output", form], [f"-o{form}"]):
        printed = run("help", *asked)
        assert printed.exit_code == 0
        assert "exit-codes" in printed.stdout
    assert form_in(["key", "list", "-o", form]) == form
    assert form_in(["run", "--", "x", "--json"]) == "table"


def test_an_unknown_form_is_refused() -> None:
    refused = run("help", "-o", "xml")
    assert (refused.exit_code, refused.stdout) == (Status.USAGE, "")
    assert "yaml" in refused.stderr


def test_a_terminal_that_is_too_narrow_gets_the_same_names(tmp_path: Path) -> None:
    name = "p" * 100
    (tmp_path / "profiles.toml").write_text(f'current = "{name}"\n[profiles.{name}]\naccount = "{"a" * 60}"\n')
    environment = {**os.environ, "STRONGROOM_CONFIG": str(tmp_path / "profiles.toml"), "COLUMNS": "40", "NO_COLOR": "1"}
    command = [str(Path(sys.executable).parent / "strongroom"), "profile", "list"]
    ours, theirs = pty.openpty()
    subprocess.run(command, env=environment, stdout=theirs, check=True)
    os.close(theirs)
    printed = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert name in printed
    piped = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert len(piped.splitlines()) == 2
