"""What must hold for every command that there is, whoever adds the next."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from strongroom.access.v1.policy_pb2 import PolicyKind
from strongroom.audit.v1.audit_service_pb2 import UsageDimension
from strongroom.audit.v1.event_pb2 import Outcome
from strongroom.cli import choices
from strongroom.cli.app import _Commands
from strongroom.cli.command import COMMON_OPTIONS
from strongroom.cli.complaints import Status
from strongroom.cli.entries import ENTRIES
from strongroom.cli.hints import NEXT_STEPS
from strongroom.cli.main import ABOUT_VARIABLES
from strongroom.cli.parser import OLD_NAMES
from strongroom.cli.topics import TOPICS, VALUES
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1.key_pb2 import ImportMethod, KeyOrigin, KeySpec, KeyUsage, ProtectionLevel
from strongroom.secrets.v1.rotation_pb2 import Weekday
from strongroom.secrets.v1.secret_pb2 import SecretType
from tests.support.cli import commands, parsed, parser, run

COMMANDS = sorted(commands())


def options_of(command: Any) -> list[Any]:
    return [one for one in command.params if one.param_type_name == "option"]


def values_of(parameter: Any) -> bool:
    """Whether a parameter takes a value."""
    return not (getattr(parameter, "is_flag", False) or getattr(parameter, "count", False))


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 120


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_options_of_every_command(command: str) -> None:
    names = {parameter.name for parameter in commands()[command].params}
    assert names >= COMMON_OPTIONS
    declared = {option for parameter in commands()[command].params for option in parameter.opts}
    assert declared >= {"-o", "--output", "--json", "--wide", "--profile", "--as-role", "--trace"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does_and_has_examples_that_parse(command: str) -> None:
    found = commands()[command]
    assert found.help
    assert found.examples, "its help has no example"
    for example in found.examples:
        assert example.startswith(f"strongroom {command}"), example
        parsed(example)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_value_is_named_and_what_it_may_be_is_said(command: str) -> None:
    for parameter in commands()[command].params:
        if parameter.name == "help" or not values_of(parameter):
            continue
        assert parameter.help, parameter.name
        metavar = parameter.metavar or parameter.name.upper()
        assert metavar in VALUES, f"{parameter.name} is a {metavar}, which `strongroom help values` does not explain"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_never_cut_off(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = run(*command.split(), "--help")
    assert printed.exit_code == 0
    assert "…" not in printed.stdout
    for parameter in commands()[command].params:
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            # What was called so before is taken, and not taught.
            taught = option not in OLD_NAMES and not parameter.hidden
            assert (option in printed.stdout.split()) is taught or f"{option}," in printed.stdout
    for example in commands()[command].examples:
        assert f"  {example}\n" in printed.stdout


@pytest.mark.parametrize(
    ("values", "enum", "prefix"),
    [
        (choices.SPECS, KeySpec, "KEY_SPEC_"),
        (choices.USAGES, KeyUsage, "KEY_USAGE_"),
        (choices.LEVELS, ProtectionLevel, "PROTECTION_LEVEL_"),
        (choices.ORIGINS, KeyOrigin, "KEY_ORIGIN_"),
        (choices.IMPORT_METHODS, ImportMethod, "IMPORT_METHOD_"),
        (choices.OUTCOMES, Outcome, "OUTCOME_"),
        (choices.POLICY_KINDS, PolicyKind, "POLICY_KIND_"),
        (choices.SECRET_TYPES, SecretType, "SECRET_TYPE_"),
        (choices.WEEKDAYS, Weekday, "WEEKDAY_"),
        ([value.upper() for value in choices.DIMENSIONS], UsageDimension, "USAGE_DIMENSION_"),
    ],
)
def test_what_is_allowed_is_what_the_contract_has(values: tuple[str, ...], enum: Any, prefix: str) -> None:
    assert set(values) == {name.removeprefix(prefix) for name in enum.keys()} - {"UNSPECIFIED"}  # noqa: SIM118


def test_signing_algorithms_are_those_of_the_contract() -> None:
    signing = {name.removeprefix("ALGORITHM_") for name in Algorithm.keys()}  # noqa: SIM118  # no mapping
    chosen = {name for name in signing if re.match(r"RSASSA|ECDSA|ED25519|ML_DSA", name)}
    assert set(choices.SIGNING_ALGORITHMS) == chosen


@pytest.mark.parametrize("typed", ["AES_128", "aes_128", "aes-128", "Aes-128"])
def test_a_choice_is_taken_in_any_case(typed: str) -> None:
    assert parsed(f"strongroom key create payments --spec {typed}").params["spec"] == "AES_128"


def test_what_is_not_allowed_is_told_with_what_is() -> None:
    for line, option, allowed in (
        ("key create a --spec AES_512", "--spec", "AES_256"),
        ("key create a --protection-level CLOUD", "--protection-level", "HSM"),
        ("audit events --outcome MAYBE", "--outcome", "DENIED"),
        ("audit report --by weather", "--by", "principal"),
        ("policy validate x --kind NONE", "--kind", "IDENTITY"),
        ("secret create s --type ORACLE", "--type", "MYSQL"),
        ("sign k --algorithm MD5", "--algorithm", "ECDSA_SHA_256"),
        ("data-key k --bytes 8", "--bytes", "16"),
        ("quota set --requests-per-second nan", "--requests-per-second", "not a number"),
    ):
        refused = run(*line.split())
        assert refused.exit_code == Status.USAGE, line
        assert option in refused.stderr
        assert allowed in refused.stderr, line


def test_the_first_help_says_what_each_command_says() -> None:
    context = parser().make_context("strongroom", [], resilient_parsing=True)
    for entries in ENTRIES.values():
        for name, entry in entries.items():
            help_text = parser().get_command(context, name).help
            said = entry.about.rstrip(".")
            assert help_text.startswith(said[: len(said) // 2]), (name, help_text)


def test_topics_are_listed_and_explained() -> None:
    listed = json.loads(run("help", "--json").stdout)["topics"]
    assert {topic["name"] for topic in listed} == set(TOPICS)
    for name in TOPICS:
        assert TOPICS[name][1].splitlines()[0] in run("help", name).stdout
    assert "RSA_2048" in run("help", "key", "create").stdout
    near = run("help", "durration")
    assert (near.exit_code, "durations" in near.stderr) == (Status.USAGE, True)


def test_every_exit_code_and_variable_is_explained() -> None:
    told = run("help", "exit-codes").stdout
    for status in Status:
        assert re.search(rf"^ +{int(status)}  ", told, re.MULTILINE)
    for name in ABOUT_VARIABLES:
        assert name in run("help", "environment").stdout


def test_every_next_step_is_a_command_that_there_is() -> None:
    for step in NEXT_STEPS.values():
        for command in re.findall(r"`(strongroom [^`]+)`", step):
            if "--help" not in command:
                parsed(command.replace("{event_id}", "0198c7c4-1a2b-7c3d-8e4f-5a6b7c8d9e0f"))


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("key describe", "KEY"),
        ("file encrypt", "KEY FILE..."),
        ("secret rotate", "[SECRET...]"),
        ("profile create", "NAME [HOST:PORT]"),
        ("key tag", "KEY NAME=VALUE..."),
        ("run", "-- COMMAND..."),
    ],
)
def test_usage_shows_what_may_be_left_out_and_what_repeated(command: str, usage: str) -> None:
    assert run(*command.split(), "--help").stdout.startswith(f"Usage: strongroom {command} [OPTIONS] {usage}\n")


WRITES_BYTES = re.compile(r"^(?:Print|Encrypt|Decrypt|Sign|Compute|Make a data key|Move a ciphertext|Get the proof)\b")
# What goes on printing has no one answer.
GOES_ON = {"secret watch", "audit tail"}


@pytest.mark.parametrize("command", [name for name, one in commands().items() if WRITES_BYTES.match(one.help)])
def test_what_prints_bytes_or_a_text_can_write_a_file(command: str) -> None:
    options = {option for parameter in commands()[command].params for option in parameter.opts}
    assert options & {"--out", "--plaintext-out"} or command in GOES_ON


@pytest.mark.parametrize(
    ("typed", "made"),
    [
        ("key describe payments", {"describe": None}),
        ("key version list payments", {"version": {"list"}}),
        ("key material import payments", {"material": {"import"}}),
        ("secret get db", {"get": None}),
        ("audit events --json", {"events": None}),
    ],
)
def test_of_a_group_only_the_command_that_is_typed_is_made(typed: str, made: dict[str, set[str] | None]) -> None:
    group, *_ = words = typed.split()
    found = _Commands()
    found.typed = words
    assert {name: set(one.commands) if made[name] else None for name, one in found[group].commands.items()} == made


@pytest.mark.parametrize(
    "typed", ["key", "key --help", "key lst", "key version", "key version lst", "secret", "encrypt k"]
)
def test_where_no_command_of_a_group_is_typed_all_are_made(typed: str) -> None:
    found = _Commands()
    found.typed = typed.split()
    for group in ("key", "secret", "audit"):
        everything = {name.split()[1] for name in commands() if name.startswith(f"{group} ")}
        if typed.startswith("key version") and group == "key":
            assert set(found["key"].commands["version"].commands) >= {"list", "destroy", "enable"}
        else:
            assert set(found[group].commands) == everything
