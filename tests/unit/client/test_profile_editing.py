"""`strongroom profile create`, `edit`, `show` and `delete`: from one address to a profile that works."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom import logins, profiles
from strongroom.cli.complaints import Status
from tests.support.cli import run
from tests.support.listening import Listening, listening

SERVICES = ("keystore", "crypto", "secrets", "audit")
ADVERTISED = {
    kind: {service: f"{service}.example:{port}" for service in SERVICES}
    for kind, port in (("token", 7101), ("certificate", 7102))
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with listening(tmp_path_factory.mktemp("mesh"), advertised=ADVERTISED) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "profiles.toml"
    monkeypatch.setenv("STRONGROOM_CONFIG", str(path))
    monkeypatch.delenv("STRONGROOM_PROFILE", raising=False)
    return path


def typed(*arguments: object) -> Any:
    return run("profile", *map(str, arguments))


def done(*arguments: object) -> Any:
    result = typed(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_one_address_is_enough(mesh: Listening, config: Path) -> None:
    made = typed("create", "live", mesh.address("public"), "--account", "shop", "--trust", mesh.trust)
    assert made.exit_code == 0, made.output
    assert "next: strongroom login" in made.stderr
    profile = profiles.load(config).get()
    assert profile.endpoints == ADVERTISED["token"]
    assert (profile.name, profile.account, profile.trust) == ("live", "shop", mesh.trust)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("config")
def test_a_certificate_is_for_the_listeners_that_take_certificates(mesh: Listening) -> None:
    pair = ("--certificate", mesh.files.certificate, "--key", mesh.files.key, "--trust", mesh.trust)
    for name, listener in (("a", "public"), ("b", "certificate")):
        made = done("create", name, mesh.address(listener), *pair)
        assert made["keystore_address"] == "keystore.example:7102"


@pytest.mark.usefixtures("config")
def test_endpoints_change_with_the_kind_of_credential(mesh: Listening) -> None:
    by_hand = [option for service in SERVICES for option in ("--endpoint", f"{service}={mesh.address('public')}")]
    done("create", "live", *by_hand, "--trust", mesh.trust)
    made = done("edit", "live", "--certificate", mesh.files.certificate, "--key", mesh.files.key)
    assert made["crypto_address"] == "crypto.example:7102"


def test_what_an_edit_does_not_name_stays_as_it_is(mesh: Listening, config: Path) -> None:
    config.parent.mkdir()
    config.write_text('# mine\ncurrent = "other"\n\n[profiles.other] # by hand\naccount = "x"\n')
    done("create", "live", mesh.address("public"), "--trust", mesh.trust, "--session-name", "nightly")
    done("edit", "live", "--account", "shop", "--unset", "session_name")
    text = config.read_text()
    assert text.startswith('# mine\ncurrent = "other"\n\n[profiles.other] # by hand\n')
    live = tomllib.loads(text)["profiles"]["live"]
    assert live == {"trust": str(mesh.trust), "account": "shop", "endpoints": ADVERTISED["token"]}
    done("edit", "live", "--account", "shop", "--use")
    assert profiles.load(config).current == "live"


def test_a_client_key_may_be_named_by_its_id(mesh: Listening, config: Path, tmp_path: Path) -> None:
    options = ("--trust", mesh.trust, "--account", "shop", "--client-key", "ck-1", "--secret-file", tmp_path / "secret")
    done("create", "live", mesh.address("public"), *options)
    assert profiles.load(config).get().client_key == "accounts/shop/clientKeys/ck-1"


def test_a_profile_is_not_replaced_unasked_and_takes_over_no_login(mesh: Listening, config: Path) -> None:
    create = ("create", "live", mesh.address("public"), "--trust", mesh.trust)
    done(*create)
    logins.login_with_token(profiles.load(config).get("live"), "token", 4e9)
    assert "a session until 2096" in done("show", "live")["login"]
    refused = typed(*create)
    assert (refused.exit_code != 0, "FILE_EXISTS" in refused.stderr) == (True, True)
    assert "login" not in done(*create, "--force")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--certificate", "c.pem"), "PROFILE_INVALID"),
        (("--client-key", "accounts/shop/clientKeys/ck"), "PROFILE_INVALID"),
        (("--client-key", "ck"), "FIELD_REQUIRED"),
        (("--trust", "missing.pem"), "CREDENTIALS_UNREADABLE"),
    ],
)
def test_nothing_is_written_of_a_profile_that_cannot_work(
    mesh: Listening, config: Path, options: tuple[str, ...], why: str
) -> None:
    refused = typed("create", "live", mesh.address("public"), "--trust", mesh.trust, *options)
    assert (refused.exit_code != 0, why in refused.stderr) == (True, True), refused.output
    assert not config.exists()


def test_a_mesh_of_somebody_else_is_not_asked(mesh: Listening, config: Path, tmp_path: Path) -> None:
    with listening(tmp_path, advertised=ADVERTISED) as other:
        refused = typed("create", "live", mesh.address("public"), "--trust", other.trust)
    assert "UNREACHABLE" in refused.stderr
    assert not config.exists()


@pytest.mark.usefixtures("config")
def test_a_mesh_that_does_not_tell_is_named_by_hand(tmp_path: Path) -> None:
    with listening(tmp_path) as silent:
        refused = typed("create", "live", silent.address("public"), "--trust", silent.trust)
    assert "ENDPOINT_UNKNOWN" in refused.stderr
    assert typed("create", "live").exit_code == 2
    assert done("create", "live", "--endpoint", "crypto=a:1")["crypto_address"] == "a:1"


def test_a_profile_is_deleted_with_its_login_and_the_rest_stays(mesh: Listening, config: Path) -> None:
    for name in ("live", "other"):
        done("create", name, mesh.address("public"), "--trust", mesh.trust)
    config.write_text(f"# mine\n{config.read_text()}")
    logins.login_with_token(profiles.load(config).get("live"), "a token", 4e9)
    tokens = config.parent / "sessions" / "live"
    assert list(tokens.iterdir())
    deleted = typed("delete", "live", "--yes")
    assert (deleted.exit_code, deleted.stdout) == (0, "deleted live\n")
    assert "no profile is current" in deleted.stderr
    assert list(tokens.glob("*.json")) == []
    kept = profiles.load(config)
    assert (list(kept.profiles), kept.current, config.read_text().startswith("# mine")) == (["other"], "", True)
    assert "(PROFILE_NOT_FOUND)" in typed("delete", "live", "--yes").stderr
    assert done("delete", "other", "--yes")["name"] == "other"
    assert "profiles" not in tomllib.loads(config.read_text())


def test_a_profile_that_is_not_current_is_deleted_and_the_current_one_stays(mesh: Listening, config: Path) -> None:
    for name in ("live", "other"):
        done("create", name, mesh.address("public"), "--trust", mesh.trust)
    assert typed("delete", "other", "--yes").stderr == ""
    assert (profiles.load(config).current, list(profiles.load(config).profiles)) == ("live", ["live"])


@pytest.mark.parametrize("command", [["profile", "create", "live", "ADDRESS"], ["login", "--client-key", "ck"]])
def test_an_authority_that_was_forgotten_is_one_line(mesh: Listening, config: Path, command: list[str]) -> None:
    config.parent.mkdir()
    config.write_text(
        f'current = "dev"\n[profiles.dev]\naccount = "main"\n[profiles.dev.endpoints]\nkeystore = "'
        f'{mesh.address("public")}"\n'
    )
    words = [mesh.address("public") if word == "ADDRESS" else word for word in command]
    ended = subprocess.run(
        [str(Path(sys.executable).parent / "strongroom"), *words],
        check=False,
        capture_output=True,
        text=True,
        input="s",
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (Status.UNREACHABLE, 1), ended.stderr
    assert "--trust of `strongroom profile create` names" in ended.stderr


def test_a_file_that_is_no_pem_is_named(mesh: Listening, config: Path, tmp_path: Path) -> None:
    (tmp_path / "m").write_text("no PEM")
    given = {"trust": mesh.trust, "certificate": mesh.files.certificate, "key": mesh.files.key}
    for option in given:
        options = [
            word for name, file in given.items() for word in (f"--{name}", tmp_path / "m" if name == option else file)
        ]
        refused = typed("create", "live", mesh.address("public"), *options)
        assert f"error: {tmp_path / 'm'}: holds no " in refused.stderr, refused.stderr
        assert "CREDENTIALS_UNREADABLE" in refused.stderr
    assert not config.exists()


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("address", ["127.0.0.1", "kms.example", "127.0.0.1:", "127.0.0.1:port", "[::1]", ":7101"])
def test_an_address_without_a_port_is_told(address: str, mesh: Listening) -> None:
    for words in (("create", "live", address), ("create", "live", address, "--trust", mesh.trust)):
        refused = typed(*words)
        assert (refused.exit_code, f"'{address}' is not HOST:PORT" in refused.stderr) == (Status.USAGE, True)


@pytest.mark.usefixtures("config")
def test_a_file_that_is_not_there_yet_is_told(mesh: Listening, tmp_path: Path) -> None:
    made = typed(
        "create", "live", mesh.address("public"), "--trust", mesh.trust, "--oidc-token-file", tmp_path / "token"
    )
    assert (made.exit_code, f"note: there is no file {tmp_path / 'token'} yet" in made.stderr) == (0, True)


def test_paths_are_shown_without_steps_back(mesh: Listening, config: Path) -> None:
    done("create", "live", mesh.address("public"), "--trust", mesh.trust)
    config.write_text(config.read_text().replace(str(mesh.trust), f"../{config.parent.name}/../trust.pem"))
    assert done("show", "live")["trust"] == str(config.parent.parent / "trust.pem")
