"""Files of the development mesh: TOML from values, profiles that leave others alone, one mesh a directory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.dev.configs import merged
from deploy.dev.directory import DirectoryInUseError, MeshDirectory
from deploy.dev.files import write_file
from deploy.dev.profile import ProfileError, profile_name, write_profile
from strongroom.toml_text import toml_text

# TOML has no surrogates and at most 64-bit integers.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
scalars = texts | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
listed = scalars | st.dictionaries(texts, scalars | st.lists(scalars, max_size=2), max_size=3)
values = st.recursive(scalars | st.lists(listed, max_size=3), lambda inner: st.dictionaries(texts, inner, max_size=3))


@given(st.dictionaries(texts, values, max_size=4))
def test_toml_says_what_the_values_said(document: dict[str, object]) -> None:
    assert tomllib.loads(toml_text(document)) == document


def test_written_file_has_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "pin", "1234", mode=0o600)
    write_file(tmp_path / "pin", "5678", mode=0o600)
    assert [(path.name, path.read_text(), path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [
        ("pin", "5678", 0o600)
    ]


def test_overrides_replace_values_and_keep_the_rest_of_a_table() -> None:
    content = {"audit": {"senders": 2, "limit": 512}, "tls": {"key": "a"}}
    assert merged(content, {"audit": {"senders": 4}, "cached_keys": 9}) == {
        "audit": {"senders": 4, "limit": 512},
        "tls": {"key": "a"},
        "cached_keys": 9,
    }


PROFILE = {"account": "default", "endpoints": {"keystore": "127.0.0.1:7102"}}


def test_a_second_mesh_leaves_the_profile_of_the_first_alone(tmp_path: Path) -> None:
    path, first, second = tmp_path / "profiles.toml", tmp_path / "first.pem", tmp_path / "second.pem"
    for trust in (first, second):
        trust.touch()
    assert profile_name(path, str(first)) == "dev"
    write_profile(path, {**PROFILE, "trust": str(first)}, "dev")
    assert profile_name(path, str(first)) == "dev"
    assert profile_name(path, str(second)) == "dev-2"
    write_profile(path, {**PROFILE, "trust": str(second)}, "dev-2")
    assert profile_name(path, str(second)) == "dev-2"
    assert profile_name(path, str(tmp_path / "third.pem")) == "dev-3"
    first.unlink()
    assert profile_name(path, str(tmp_path / "third.pem")) == "dev"
    path.write_text("]")
    with pytest.raises(ProfileError):
        profile_name(path, str(first))


def test_first_profile_becomes_the_current_one(tmp_path: Path) -> None:
    path = tmp_path / "strongroom" / "profiles.toml"
    assert write_profile(path, PROFILE)
    assert tomllib.loads(path.read_text()) == {"current": "dev", "profiles": {"dev": PROFILE}}
    assert path.stat().st_mode & 0o777 == 0o600


def test_profile_replaces_its_own_tables_and_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "profiles.toml"
    others = '# mine\ncurrent = "production"\n\n[profiles.production]  # careful\naccount = "main"\n'
    own = '\n[profiles.dev]\naccount = "old"\n[profiles.dev.endpoints]\ncrypto = "gone:1"\n'
    path.write_text(others + own + '\n[profiles.developer]\naccount = "third"\n')
    assert not write_profile(path, PROFILE)
    text = path.read_text()
    assert text.startswith(others)
    assert tomllib.loads(text) == {
        "current": "production",
        "profiles": {"production": {"account": "main"}, "developer": {"account": "third"}, "dev": PROFILE},
    }
    write_profile(path, PROFILE)
    assert path.read_text() == text


def test_profile_written_in_another_style_is_still_replaced(tmp_path: Path) -> None:
    path = tmp_path / "profiles.toml"
    path.write_text('current = ""\n[profiles]\ndev = {account = "old"}\nother = {account = "x"}\n')
    assert write_profile(path, PROFILE)
    assert tomllib.loads(path.read_text()) == {
        "current": "dev",
        "profiles": {"other": {"account": "x"}, "dev": PROFILE},
    }


def test_profile_file_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "profiles.toml"
    path.write_text("current = ")
    with pytest.raises(ProfileError, match=r"profiles\.toml"):
        write_profile(path, PROFILE)
    assert path.read_text() == "current = "


def test_second_mesh_in_a_directory_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first, second = MeshDirectory(tmp_path), MeshDirectory(tmp_path)
    first.lock()
    with pytest.raises(DirectoryInUseError, match="already"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_processes_of_a_killed_mesh_are_ended(tmp_path: Path) -> None:
    directory = MeshDirectory(tmp_path)
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    directory.record_processes({"crypto": orphan.pid})
    assert directory.end_left_over_processes() == ["crypto"]
    assert orphan.wait(5) == -signal.SIGKILL
    assert directory.end_left_over_processes() == []


def test_process_that_took_over_an_id_is_left_alone(tmp_path: Path) -> None:
    stranger = psutil.Process()
    entry = {"pid": stranger.pid, "started": stranger.create_time() - 100}
    (tmp_path / "processes.json").write_text(json.dumps({"crypto": entry}))
    assert MeshDirectory(tmp_path).end_left_over_processes() == []
