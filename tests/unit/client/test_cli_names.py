"""Each form in which some command prints the name of a thing is taken by every command that takes such a thing."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.command import COMMON_OPTIONS
from strongroom.cli.complaints import Status
from strongroom.cli.topics import TOPICS
from strongroom.errors import StrongroomError
from strongroom.names import Names
from strongroom.transport import Endpoint
from tests.support.cli import commands, parser
from tests.unit.client.test_cli_endings import PROFILES

EVENT = "0198c7c4-1a2b-7c3d-8e4f-5a6b7c8d9e0f"


def forms(kind: str, name: str, *more: str) -> tuple[str, ...]:
    return (name, f"{kind}/{name}", f"accounts/main/{kind}/{name}", *more)


# By the word in capitals that the help has for it.
FORMS: Mapping[str, tuple[str, ...]] = {
    "KEY": forms("keys", "payments", "alias/current", "aliases/current", "accounts/main/aliases/current"),
    "ALIAS": forms("aliases", "current", "alias/current"),
    "SECRET": forms("secrets", "payments/db"),
    "PRINCIPAL": ("users/ann", "workloads/api", "roles/reader", "accounts/main/users/ann"),
    "ROLE": forms("roles", "reader"),
    "POLICY": forms("policies", "use"),
    "GRANT": forms("grants", "g-1a2b3c"),
    "CLIENT_KEY": forms("clientKeys", "ck-1a2b3c"),
    "PROVIDER": forms("oidcProviders", "cluster"),
    "EVENT": forms("events", EVENT),
    "TARGET": ("users/ann", "roles/reader", "accounts/main/users/ann"),
    "RESOURCE": ("keys/payments", "secrets/payments/db", "aliases/current", "alias/current", "users/ann"),
    "VERSION": forms("keys", "payments/versions/2"),
}
OF_SECRETS = forms("secrets", "payments/db/versions/2")
# What else has to be there before a name is looked at.
VALUES: Mapping[str, str] = {
    **{metavar: found[0] for metavar, found in FORMS.items()},
    "ACCOUNT": "main",
    "ACTION": "crypto:Decrypt",
    "BASE64": "AAAA",
    "FILE": "file",
    "FOLDER": ".",
    "ID": "x",
    "NAME": "x",
    "NAME=VALUE": "a=b",
    "PATH": "file",
    "RESOURCE": "keys/payments",
    "SPAN": "30d",
    "STAGE": "Mine",
    "TEXT": "x",
}
# Of these the parameter alone does not make a whole command.
BESIDE: Mapping[str, tuple[str, ...]] = {
    "audit export": ("--format", "jsonl", "--force"),
    "decrypt": ("--text", "AQ=="),
    "file encrypt": ("--out", "sealed", "--force"),
    "key material import-wrapped": ("--in", "file"),
    "mac verify": ("--mac", "AAAA"),
    "oidc-provider update": ("--audience", "x"),
    "policy update": ("--description", "x"),
    "principal update": ("--description", "x"),
    "public-key decrypt": ("--text", "AQ=="),
    "re-encrypt": ("--text", "AQ=="),
    "secret create": ("--text", "x"),
    "secret create master": ("--text", "x", "--type", "MYSQL", "--host", "h", "--user", "u"),
    "secret create principal": (),
    "secret put": ("--text", "x"),
    "secret update": ("--description", "x"),
    "verify": ("--signature", "AAAA"),
}
# What opens no call of its own, or names what is looked for elsewhere.
ELSEWHERE = {
    "run",
    "file decrypt",
    "file rewrap",
    "file inspect",
    "profile create",
    "profile edit",
    "migrate aws-sm",
    "migrate vault",
}


def places() -> Iterator[tuple[str, str]]:
    for command, found in commands().items():
        if command not in ELSEWHERE:
            for parameter in found.params:
                if metavar_of(parameter) in FORMS and parameter.name not in COMMON_OPTIONS:
                    yield command, parameter.name


def metavar_of(parameter: Any) -> str:
    return (parameter.metavar or "").removesuffix("...").strip("[]")


def line_of(command: str, name: str, form: str) -> list[str]:
    """The shortest command line in which the parameter has this form."""
    words = command.split()
    for parameter in commands()[command].params:
        value = form if parameter.name == name else VALUES.get(metavar_of(parameter), "1")
        if parameter.name == name or parameter.required:
            words += [parameter.opts[0], value] if parameter.param_type_name == "option" else [value]
    words += BESIDE.get(f"{command} {name}", BESIDE.get(command, ()))
    if any(parameter.name == "yes" for parameter in commands()[command].params) and "--yes" not in words:
        words.append("--yes")
    return words


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that reach the mesh, which refuses all."""
    (tmp_path / "profiles.toml").write_text(PROFILES)
    (tmp_path / "file").write_bytes(b"permit (principal, action, resource);")
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    for variable in ("STRONGROOM_PROFILE", "STRONGROOM_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def refuse(_: object, method: object, request: object, *rest: object) -> Any:
        del method, rest
        seen.append(str(request))
        raise StrongroomError("KEY_DISABLED", "this far and no further", code="FAILED_PRECONDITION")

    for name in ("call", "stream"):
        monkeypatch.setattr(Endpoint, name, refuse)
    return seen


@pytest.mark.parametrize(("command", "parameter"), list(places()))
def test_every_form_of_a_name_reaches_the_mesh_in_full(
    command: str,
    parameter: str,
    calls: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = next(one for one in commands()[command].params if one.name == parameter)
    taken = FORMS[metavar_of(found)]
    if metavar_of(found) == "VERSION" and command.startswith(("secret ", "audit ")):
        taken = OF_SECRETS
    for form in taken:
        calls.clear()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x")))
        status = parser().main(line_of(command, parameter, form), standalone_mode=False)
        told = capsys.readouterr()
        assert status in (Status.REFUSED, Status.NO), (form, told.err)
        assert "NAME_MALFORMED" not in told.out + told.err
        assert calls
        assert not re.search(r'"(?:keys|aliases|secrets|users|roles)/', "".join(calls)), calls


NAMES = Names("main")
OF_THE_TOPIC: Mapping[str, Callable[[str], str]] = {
    "keys": NAMES.key,
    "key versions": NAMES.key_or_version,
    "secrets": NAMES.secret,
    "secret versions": NAMES.secret_version,
    "principals": NAMES.principal,
    "in full": NAMES.key,
}


def test_every_word_of_the_topic_on_names_is_a_name() -> None:
    rows = dict(re.findall(r"^  (\w+(?: \w+)?)  +(\S.*)$", TOPICS["names"][1], re.MULTILINE))
    assert set(rows) == set(OF_THE_TOPIC)
    for kind, words in rows.items():
        for name in words.split(", "):
            assert OF_THE_TOPIC[kind](name).startswith("accounts/main/")
    for collection in re.findall(r"(\w+)/(?:,| or| before)", TOPICS["names"][1]):
        assert collection in ("roles", "policies", "grants", "clientKeys", "oidcProviders")
