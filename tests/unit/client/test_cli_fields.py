"""A field that a service refuses is told as what was typed for it, by every command and for every field that it sends.

Each parameter of each command is given two values: the fields of the requests that differ then are made of it, and
hints have to say so. With the same command lines each option is tried without those that it may need: one that changes
nothing then would be passed over silently.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strongroom.cli.complaints import Status
from strongroom.cli.hints import hint_for
from strongroom.cli.request_fields import parameter_of
from strongroom.cli.together import EMPTIED, EMPTY_MEANS_SOMETHING
from strongroom.errors import StrongroomError
from tests.support.cli import commands, run
from tests.support.recorded_cli import (
    BESIDE,
    VALUES,
    Recorder,
    is_flag,
    line_of,
    metavar_of,
    own_parameters,
    surroundings,
    typed_of,
)
from tests.unit.client.test_cli_endings import PROFILES

# These run other programs, serve, ask other services, or change this machine alone.
ELSEWHERE = (
    "run",
    "migrate",
    "audit witness",
    "audit verify",
    "profile",
    "trace",
    "help",
    "login",
    "logout",
    "file",
    "status",
)
COMMANDS = sorted(name for name in commands() if not name.startswith(ELSEWHERE))
# Nobody types these, or they follow from what a command is for.
NOT_TYPED = re.compile(
    r"(.*\.)?(parent|request_id|page_size|page_token|etag|update_mask|\w+_crc32c|order|import_token|disabled|account"
    r"|deletion_protection|include_archive|session)$"
)
# What these are about is the account of the profile.
OF_THE_ACCOUNT = ("audit hold", "audit retention", "audit shred")
SET_BY_THE_COMMAND = {("role list", "filter"), ("secret readers", "action"), ("secret readers", "outcome")}
# These say how another parameter is read, or what is to be in place of it.
HOW = {"digest", "force", "keep_newline", "no_value", "now"}
# With what the mesh answers here, these have nothing to do.
NOTHING_TO_DO = {
    ("audit events", "limit"),
    ("audit events", "oldest_first"),
    ("audit export", "form"),
    ("audit prove", "output_file"),
    ("audit report", "until"),
    ("audit tail", "limit"),
    ("client-key create", "expires"),
    ("data-key", "without_plaintext"),
    ("key material import", "source"),
    ("public-key get", "der"),
    ("random", "hex_digits"),
    ("root rotate", "follow"),
    ("secret rotate", "follow"),
    ("secret rotate", "now"),
}
# How much is done at once, and whether what is there is replaced, changes nothing of what is asked for.
ALWAYS_HARMLESS = {"force", "concurrency", "jobs"}


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    surroundings(tmp_path)
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    for variable in ("STRONGROOM_PROFILE", "STRONGROOM_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return Recorder(monkeypatch)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_that_differs_with_a_parameter_is_told_as_that_parameter(command: str, recorder: Recorder) -> None:
    for parameter in own_parameters(command):
        if parameter.name in HOW or (command, parameter.name) == ("secret rotate", "timeout"):
            continue
        first = line_of(command, parameter.name, None if is_flag(parameter) else 0)
        second = line_of(command, parameter.name, 0 if is_flag(parameter) else 1)
        before, again, after = recorder.run(first), recorder.run(first), recorder.run(second)
        typed = typed_of(command, second)
        for method, path in before.changed(after) - before.changed(again):
            if not NOT_TYPED.match(path) or path == "key.deletion_protection":
                assert parameter_of(typed, method, path) == parameter.name, (second, method, path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_that_a_command_sends_is_told_as_something_that_it_has(command: str, recorder: Recorder) -> None:
    for parameter in own_parameters(command):
        if (command, parameter.name) == ("secret rotate", "timeout"):
            continue
        line = line_of(command, parameter.name, 0)
        typed = typed_of(command, line)
        for method, path in recorder.run(line).fields:
            if NOT_TYPED.match(path) or (command, path) in SET_BY_THE_COMMAND:
                continue
            if command in OF_THE_ACCOUNT and path.rpartition(".")[2] == "name":
                continue
            assert parameter_of(typed, method, path), (line, method, path)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_is_passed_over_for_want_of_another(command: str, recorder: Recorder) -> None:
    whole = BESIDE.get(command, ())
    for parameter in own_parameters(command):
        if parameter.required or parameter.name in ALWAYS_HARMLESS or (command, parameter.name) in NOTHING_TO_DO:
            continue
        # With what the command never goes without, and nothing that this option needs.
        beside = BESIDE.get(f"{command} {parameter.name}", whole)
        alone = {command: whole, f"{command} {parameter.name}": beside if len(beside) <= len(whole) else whole}
        without, again = (recorder.run(line_of(command, parameter.name, None, alone)) for _ in range(2))
        # One of its values may be what holds without it.
        outcomes = [recorder.run(line_of(command, parameter.name, which, alone)) for which in (0, 1)]
        assert any(
            outcome.status in (Status.USAGE, Status.REFUSED)
            or without.sent.keys() != outcome.sent.keys()
            or without.changed(outcome) - without.changed(again)
            or without.written != outcome.written
            for outcome in outcomes
        ), (command, parameter.name)


def refused_with(command: str, words: list[str], method: str, field: str, reason: str = "FIELD_REQUIRED") -> str:
    """The hint of a command whose field a service refuses."""
    error = StrongroomError(reason, f"{field} is required", field=field, method=method)
    return hint_for(error, typed_of(command, [*command.split(), *words]))


@pytest.mark.parametrize(
    ("line", "method", "field", "told"),
    [
        ("policy create|n file-1", "CreatePolicy", "policy.cedar", "that is what file-1 holds"),
        ("policy update|n file-1", "UpdatePolicy", "policy.cedar", "that is what file-1 holds"),
        ("policy validate|-", "ValidatePolicy", "cedar", "that is standard input"),
        ("secret rotation-policy|r --every 1d", "UpdateRotationPolicy", "rotation_policy.window.start", "--window"),
        ("secret create|pg --type POSTGRESQL", "CreateSecret", "secret.target.database", "that is --host"),
        ("secret create|pg --target file-1", "CreateSecret", "secret.target.ssh.host", "that is what file-1 holds"),
        ("secret create|x", "CreateSecret", "value", "that is standard input"),
        ("secret create|x --in file-1", "CreateSecret", "value", "that is what file-1 holds"),
        ("secret put|x --text y", "PutSecretValue", "value", "that is --text"),
        ("secret create|x --host h --user u", "CreateSecret", "secret.target.redis.address.port", "that is --port"),
        ("encrypt|k", "Encrypt", "plaintext", "that is standard input"),
        ("encrypt|k --text=", "Encrypt", "plaintext", "that is --text"),
        ("encrypt|k --in -", "Encrypt", "plaintext", "that is standard input"),
        ("encrypt|k --text x", "Encrypt", "encryption_context", "that is --context"),
        ("re-encrypt|k", "ReEncrypt", "source_encryption_context", "that is --source-context"),
        ("key create|x", "CreateKey", "key.usage", "that is --usage"),
        ("key create|x", "CreateKey", "key.tags[team]", "that is --tag"),
        ("key create|x --as-role r", "AssumeRole", "role", "that is --as-role"),
        ("principal create|users/x --role a --as-role r", "AssumeRole", "role", "that is --as-role"),
        ("principal create|users/x --role a", "CreatePrincipal", "principal.roles[0]", "that is --role"),
        ("assume-role|a --as-role r --duration 1h", "AssumeRole", "duration", "that is --duration"),
        ("file encrypt|k file-1 --recipient a", "Encrypt", "key", "that is --recipient"),
        ("file encrypt|k file-1 --recipient a", "GenerateDataKey", "key", "that is KEY"),
        ("login|--client-key ck", "CreateSession", "client_key.secret", "that is standard input"),
        ("login|--client-key ck --secret-file file-1", "CreateSession", "client_key.secret", "what file-1 holds"),
        ("grant create|k --grantee users/a --operation a:b", "CreateGrant", "grant.expire_time", "that is --expires"),
        ("access simulate|--principal a --action a:b --resource c", "SimulateAccess", "time", "that is --at"),
    ],
)
def test_what_is_missing_is_told_too(line: str, method: str, field: str, told: str) -> None:
    command, _, words = line.partition("|")
    assert told in refused_with(command, words.split(), method, field)


def test_a_field_that_the_message_does_not_name_is_told_as_nothing() -> None:
    error = StrongroomError("KEY_NOT_FOUND", "there is no accounts/main/keys/k", field="key", method="Encrypt")
    assert (
        hint_for(error, typed_of("encrypt", ["encrypt", "k"])) == "`strongroom key list` shows those that you may use"
    )


@pytest.mark.parametrize(
    ("line", "method", "field"),
    [
        # What the credentials of the profile are exchanged with was not typed.
        ("encrypt|k", "AssumeRole", "role"),
        ("assume-role|a", "CreateSession", "session_name"),
        ("key create|x", "CreateSession", "client_key.secret"),
        ("key list|", "ListKeys", "parent"),
    ],
)
def test_what_was_not_typed_is_told_as_nothing(line: str, method: str, field: str) -> None:
    command, _, words = line.partition("|")
    assert refused_with(command, words.split(), method, field) == "`strongroom help FIELD_REQUIRED` explains it"


def places() -> list[tuple[str, str]]:
    """Where the client itself refuses the name of something that there is."""
    kinds = {"KEY", "ALIAS", "PRINCIPAL", "ROLE", "POLICY", "GRANT", "CLIENT_KEY", "PROVIDER", "EVENT", "TARGET"}
    return [
        (command, parameter.name)
        for command in COMMANDS
        for parameter in own_parameters(command)
        if metavar_of(parameter) in kinds and (command, parameter.name) != ("alias create", "alias")
    ]


@pytest.mark.parametrize(("command", "name"), places())
def test_a_name_that_the_client_refuses_is_told_as_what_was_typed(command: str, name: str, recorder: Recorder) -> None:
    found = next(parameter for parameter in own_parameters(command) if parameter.name == name)
    line = [word if word != VALUES[metavar_of(found)][1] else "x/y" for word in line_of(command, name, 1)]
    ended = recorder.run(line)
    flag = metavar_of(found) if found.param_type_name == "argument" else found.opts[0]
    assert (ended.status, flag in ended.written) == (Status.REFUSED, True), (line, ended.written)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.endswith(" update")])
@pytest.mark.usefixtures("recorder")
def test_an_update_of_nothing_is_told_what_there_is(command: str) -> None:
    if command == "key update":
        # It has one thing to change, which has to be given.
        return
    names = {"account": [], "principal": ["users/x"]}.get(command.partition(" ")[0], ["x"])
    asks = any(parameter.name == "yes" for parameter in commands()[command].params)
    ended = run(*command.split(), *names, *(["--yes"] if asks else []))
    assert ended.exit_code in (Status.USAGE, Status.REFUSED)
    for parameter in own_parameters(command):
        if parameter.param_type_name == "option" and parameter.name != "skip_target_check":
            assert parameter.opts[0] in ended.stderr, ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_word_is_a_variable_that_nobody_set(command: str, recorder: Recorder) -> None:
    for parameter in own_parameters(command):
        if is_flag(parameter) or metavar_of(parameter) in EMPTY_MEANS_SOMETHING or parameter.name in EMPTIED:
            continue
        line = line_of(command, parameter.name, None)
        line += [""] if parameter.param_type_name == "argument" else [parameter.opts[0], ""]
        ended = recorder.run(line)
        assert (ended.status, ended.sent) == (Status.USAGE, {}), (line, ended.written)


def test_a_text_may_be_empty(recorder: Recorder) -> None:
    for line in ("key update k --description", "secret update s --description", "oidc-provider update p --jwks-uri"):
        assert recorder.run([*line.split(), ""]).status == 0
