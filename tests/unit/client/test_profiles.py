"""The profile file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from strongroom import profiles
from strongroom.errors import StrongroomError

FILE = """\
current = "dev"

[profiles.dev]
account = "main"
trust = "/mesh/authority.pem"
certificate = "certificate.pem"
key = "/mesh/key.pem"
trace_directory = "/mesh/traces"

[profiles.dev.endpoints]
keystore = "127.0.0.1:7102"
crypto = "127.0.0.1:7112"

[profiles.live] # the real one
account = "shop"
session = true
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "strongroom" / "profiles.toml"
    file.parent.mkdir()
    file.write_text(FILE)
    return file


def test_a_profile_is_read_whole(path: Path) -> None:
    profile = profiles.load(path).get()
    assert (profile.name, profile.account, profile.session) == ("dev", "main", False)
    assert profile.endpoints == {"keystore": "127.0.0.1:7102", "crypto": "127.0.0.1:7112"}
    assert (profile.trust, profile.key) == (Path("/mesh/authority.pem"), Path("/mesh/key.pem"))
    assert profile.trace_directory == Path("/mesh/traces")


def test_paths_are_relative_to_the_file(path: Path) -> None:
    assert profiles.load(path).get("dev").certificate == path.parent / "certificate.pem"


def test_what_is_left_out_is_empty(path: Path) -> None:
    profile = profiles.load(path).get("live")
    assert (profile.session, profile.endpoints, profile.trust, profile.certificate) == (True, {}, None, None)


def test_the_environment_says_which_file_and_which_profile(path: Path, tmp_path: Path) -> None:
    by_home = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert profiles.profile_path(by_home) == path
    assert profiles.profile_path({**by_home, "STRONGROOM_CONFIG": "/else.toml"}) == Path("/else.toml")
    assert profiles.profile_path({}) == Path.home() / ".config" / "strongroom" / "profiles.toml"
    assert profiles.find("", by_home).name == "dev"
    assert profiles.find("", {**by_home, "STRONGROOM_PROFILE": "live"}).name == "live"
    assert profiles.find("dev", {**by_home, "STRONGROOM_PROFILE": "live"}).name == "dev"


def test_a_profile_that_is_not_there_is_told_with_those_that_are(path: Path) -> None:
    with pytest.raises(StrongroomError, match="dev, live") as refusal:
        profiles.load(path).get("other")
    assert refusal.value.reason == "PROFILE_NOT_FOUND"


def test_without_a_file_the_error_says_where_it_would_be(tmp_path: Path) -> None:
    with pytest.raises(StrongroomError, match=r"none\.toml") as refusal:
        profiles.load(tmp_path / "none.toml")
    assert refusal.value.reason == "PROFILE_NOT_FOUND"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("current = \n", "line 1"),
        ("current = 1", "current"),
        ("profiles = 1", "profiles"),
        ("[profiles]\ndev = 1", r"profiles\.dev"),
        ("[profiles.dev]\ntrust = 1", r"profiles\.dev\.trust"),
        ('[profiles.dev]\nsession = "yes"', r"profiles\.dev\.session"),
        ("[profiles.dev]\nendpoints = 1", r"profiles\.dev\.endpoints"),
        ('[profiles.dev.endpoints]\ncrypt = "a:1"', r"profiles\.dev\.endpoints\.crypt"),
        ('[profiles.dev.endpoints]\ncrypto = "a"', "host:port"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(path: Path, text: str, named: str) -> None:
    path.write_text(text)
    with pytest.raises(StrongroomError, match=named) as refusal:
        profiles.load(path)
    assert refusal.value.reason == "PROFILE_INVALID"


def test_another_profile_becomes_current_and_the_rest_stays(path: Path) -> None:
    assert profiles.use("live", path).current == "live"
    assert path.read_text() == FILE.replace('current = "dev"', 'current = "live"')
    assert path.stat().st_mode & 0o777 == 0o600
    assert profiles.load(path).get().name == "live"


def test_a_file_without_a_current_profile_gets_one(path: Path) -> None:
    path.write_text(FILE.replace('current = "dev"\n', "# mine\n"))
    profiles.use("live", path)
    assert tomllib.loads(path.read_text())["current"] == "live"
    assert "# mine" in path.read_text()


def test_a_profile_that_is_not_there_cannot_become_current(path: Path) -> None:
    with pytest.raises(StrongroomError):
        profiles.use("other", path)
    assert path.read_text() == FILE


def test_a_current_line_of_another_form_is_left_alone(path: Path) -> None:
    text = FILE.replace("current =", '"current" =')
    path.write_text(text)
    with pytest.raises(StrongroomError) as refusal:
        profiles.use("live", path)
    assert refusal.value.reason == "PROFILE_INVALID"
    assert path.read_text() == text
